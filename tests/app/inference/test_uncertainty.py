from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from ball_network import SIZE, balls, trained
from fedward.inference.uncertainty import (
    PASSES,
    dropouts,
    dropping,
    lesion_uncertainties,
    summarise_passes,
    with_background,
)
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.models.sliding_window import foreground_probabilities
from fedward.models.weights import layout_of
from fedward.settings.networks import UNet3D
from network_cases import CASES, SEGMENTATION


def random_answers(seed: int, passes: int, classes: int) -> np.ndarray:
    raw = np.random.default_rng(seed).gamma(0.5, size=(passes, classes, 3, 4)) + 1e-9
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 4))
def test_mean_variance_and_entropies_are_numpys_and_scipys(seed: int, passes: int, classes: int) -> None:
    answers = random_answers(seed, passes, classes)
    found = summarise_passes(iter(answers))
    np.testing.assert_allclose(found.mean, answers.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.variance, answers.var(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.entropy, entropy(answers.mean(axis=0), axis=0), atol=1e-5)
    expected = entropy(answers.mean(axis=0), axis=0) - entropy(answers, axis=1).mean(axis=0)
    np.testing.assert_allclose(found.disagreement, expected, atol=1e-5)
    assert found.passes == passes


def test_passes_that_agree_leave_no_disagreement_however_unsure_they_are() -> None:
    unsure = np.full((2, 1, 1, 1), 0.5, np.float32)
    found = summarise_passes([unsure] * 3)
    assert found.entropy.item() == pytest.approx(np.log(2))
    assert (found.variance.max(), found.disagreement.item()) == (0.0, 0.0)


def test_passes_that_contradict_each_other_disagree_wholly() -> None:
    yes, no = np.array([[0.0], [1.0]], np.float32), np.array([[1.0], [0.0]], np.float32)
    found = summarise_passes([yes, no])
    assert found.variance.tolist() == [[0.25], [0.25]]
    assert found.disagreement.item() == pytest.approx(np.log(2))


def test_nothing_and_unlike_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="no answer"):
        summarise_passes([])
    with pytest.raises(ValueError, match="one shape"):
        summarise_passes([np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)])


def test_the_background_is_what_the_classes_leave() -> None:
    foreground = np.array([[0.2, 0.7], [0.3, 0.4]], np.float32)
    np.testing.assert_allclose(with_background(foreground), [[0.5, 0.0], [0.2, 0.7], [0.3, 0.4]], atol=1e-6)


def test_dropout_stays_on_through_a_sliding_window_and_nothing_else_changes() -> None:
    module, image = trained(), balls(1, 100)[0][0, 0].numpy()
    state = torch.get_rng_state()

    def passes(seed: int) -> list[np.ndarray]:
        with dropping(module, seed=seed) as dropped:
            return [foreground_probabilities(dropped, image, (SIZE, SIZE, SIZE), runtime=Runtime()) for _ in range(2)]

    first, again, other = passes(1), passes(1), passes(2)
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any()
    assert not any(part.training for part in module.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_only_dropout_is_put_in_training_mode() -> None:
    module = trained()
    with dropping(module, seed=0):
        assert {part for part in module.modules() if part.training} == set(dropouts(module))


def test_a_network_without_dropout_is_refused() -> None:
    module = build(UNet3D(name="unet3d", channels=(8, 16)), task=SEGMENTATION)
    with pytest.raises(ValueError, match="without dropout"), dropping(module, seed=0):
        pass


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_network_has_a_dropout_that_makes_passes_differ_and_changes_no_layout(name: str) -> None:
    case = CASES[name]
    with_dropout = replace(case, network=case.network.model_copy(update={"dropout": 0.3}))
    module, images = with_dropout.module().eval(), case.images([1])
    assert layout_of(module) == layout_of(case.module())
    assert not dropouts(case.module())
    with dropping(module, seed=1) as dropped, torch.inference_mode():
        first, second = (_flat(dropped(images)) for _ in range(2))
        sure = _flat(module.eval()(images))
    assert not torch.equal(first, second)
    assert not torch.equal(first, sure)


def _flat(answer: object) -> torch.Tensor:
    parts = [answer] if isinstance(answer, torch.Tensor) else [answer.segmentation, answer.malignancy]
    return torch.cat([part.flatten() for part in parts])


def doubt_of(images: torch.Tensor) -> float:
    """The mean entropy of what is marked as a ball."""
    with dropping(trained(), seed=5) as dropped, torch.inference_mode():
        answers = (torch.softmax(dropped(images), dim=1).transpose(0, 1).numpy() for _ in range(PASSES))
        found = summarise_passes(answers)
    return float(found.entropy[found.mean[1] > 0.5].mean())


def test_a_lesion_in_a_corrupted_image_is_doubted_more() -> None:
    images, masks = balls(8, seed=200)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(9))
    clean = doubt_of(images)
    assert doubt_of(images + noise) > 1.25 * clean
    assert doubt_of(images - 0.5 * masks) > 1.25 * clean


def test_a_lesions_doubt_is_that_of_its_voxels() -> None:
    lesion_map = np.zeros((2, 2, 2), np.uint8)
    lesion_map[0], lesion_map[1, 0] = 1, 3
    sure, torn = np.zeros((2, 2, 2, 2), np.float32), np.zeros((2, 2, 2, 2), np.float32)
    sure[1], torn[1] = 0.9, np.where(lesion_map == 3, 0.1, 0.9)
    sure[0], torn[0] = 1 - sure[1], 1 - torn[1]
    first, third = lesion_uncertainties(summarise_passes([sure, torn]), lesion_map)
    assert (first.number, third.number) == (1, 3)
    assert (first.deviation, third.deviation) == (0.0, pytest.approx(0.4, abs=1e-6))
    assert first.entropy == pytest.approx(entropy([0.1, 0.9]), rel=1e-5)
    assert third.entropy == pytest.approx(np.log(2), rel=1e-5)
    assert first.disagreement == pytest.approx(0, abs=1e-6)
    assert third.disagreement == pytest.approx(np.log(2) - entropy([0.1, 0.9]), rel=1e-5)
    assert [lesion.needs_second_read(threshold=0.2) for lesion in (first, third)] == [False, True]


def test_a_map_of_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="one grid"):
        lesion_uncertainties(summarise_passes([np.ones((1, 2, 2, 2), np.float32)]), np.zeros((2, 2, 3), np.uint8))
