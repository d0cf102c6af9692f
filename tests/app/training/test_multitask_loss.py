from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedward.models.multitask_densenet3d import MultiTaskAnswer
from fedward.training.multitask_loss import MultiTaskTruth, multitask_loss
from network_cases import MULTITASK

UNKNOWN = torch.full((2,), float("nan"))


def answer(log_variances: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> MultiTaskAnswer:
    segmentation = torch.randn(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return MultiTaskAnswer(
        segmentation.requires_grad_(),
        torch.tensor([0.5, -1.0], requires_grad=True),
        torch.tensor([8.0, 30.0], requires_grad=True),
        torch.tensor(log_variances, requires_grad=True),
    )


def truth() -> MultiTaskTruth:
    voxels = torch.zeros(2, 1, 4, 4, 4, dtype=torch.uint8)
    voxels[:, :, 1:3] = 1
    return MultiTaskTruth(voxels, torch.tensor([1.0, 0.0]), torch.tensor([10.0, 15.0]))


def test_the_three_losses_by_hand() -> None:
    whole = multitask_loss(answer(), truth(), task=MULTITASK)
    no_diameter = multitask_loss(answer(), replace(truth(), diameter_mm=UNKNOWN), task=MULTITASK)
    voxels_only = multitask_loss(answer(), replace(truth(), diameter_mm=UNKNOWN, malignancy=UNKNOWN), task=MULTITASK)
    # Errors of 0.2 and 1.5 typical diameters: half the square, then linear.
    assert math.isclose((whole - no_diameter).item(), (0.2**2 / 2 + (1.5 - 0.5)) / 2, rel_tol=1e-4)
    malignancy = (3.0 * math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-1.0))) / 2
    assert math.isclose((no_diameter - voxels_only).item(), malignancy, rel_tol=1e-4)
    assert voxels_only > 0


def test_a_larger_variance_lowers_a_losss_weight_and_costs_its_logarithm() -> None:
    base, less = answer(), answer((0.0, 0.0, 1.0))
    regression = (0.2**2 / 2 + (1.5 - 0.5)) / 2
    bent = 4 * math.tanh(0.25)
    difference = multitask_loss(less, truth(), task=MULTITASK) - multitask_loss(base, truth(), task=MULTITASK)
    assert math.isclose(difference.item(), (math.exp(-bent) - 1) * regression + bent / 2, rel_tol=1e-4)


def test_the_learned_variance_settles_where_theory_puts_it() -> None:
    # exp(-s) L + s / 2 is smallest at s = log(2 L): there the regression loss L is half the variance.
    value = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([value], lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        multitask_loss(answer()._replace(log_variances=value), truth(), task=MULTITASK).backward()
        optimiser.step()
    settled = 4 * math.tanh(value[2].item() / 4)
    assert settled == pytest.approx(math.log(2 * (0.2**2 / 2 + 1.0) / 2), abs=0.02)


@pytest.mark.parametrize("far", [-50.0, 50.0])
def test_a_variance_far_out_still_finds_back(far: float) -> None:
    given = answer((0.0, 0.0, 12.0 if far > 0 else -12.0))
    multitask_loss(given, truth(), task=MULTITASK).backward()
    assert given.log_variances.grad is not None
    assert given.log_variances.grad[2] * far > 0


def test_what_is_unknown_moves_nothing() -> None:
    given = answer()
    unknown = replace(truth(), malignancy=UNKNOWN, diameter_mm=UNKNOWN)
    multitask_loss(given, unknown, task=MULTITASK).backward()
    assert given.malignancy.grad is not None
    assert given.diameter_mm.grad is not None
    assert given.log_variances.grad is not None
    assert not given.malignancy.grad.any()
    assert not given.diameter_mm.grad.any()
    assert given.log_variances.grad[1:].tolist() == [0.0, 0.0]
    assert given.log_variances.grad[0] != 0


def test_one_lesions_gaps_do_not_change_anothers_share() -> None:
    def of(index: int, known: MultiTaskTruth) -> float:
        one = slice(index, index + 1)
        ours = answer()
        part = MultiTaskAnswer(ours.segmentation[one], ours.malignancy[one], ours.diameter_mm[one], ours.log_variances)
        there = MultiTaskTruth(known.voxels[one], known.malignancy[one], known.diameter_mm[one])
        return multitask_loss(part, there, task=MULTITASK).item()

    gaps = replace(truth(), diameter_mm=torch.tensor([10.0, float("nan")]))
    whole = multitask_loss(answer(), gaps, task=MULTITASK).item()
    assert whole == pytest.approx((of(0, gaps) + of(1, gaps)) / 2, rel=1e-5)
    assert of(0, gaps) == of(0, truth())
