"""What holds for every network that a job may name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedward.models.networks import BUILDERS, build
from fedward.models.weights import layout_of, read_weights, write_weights
from network_cases import CASES, CLASSIFICATION, MULTITASK, SEGMENTATION, NetworkCase

PATIENTS = [1, 2, 3]

every_network = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def gradient(case: NetworkCase, module: torch.nn.Module, patients: list[int]) -> np.ndarray:
    module.zero_grad(set_to_none=True)
    case.patients_loss(module, patients).backward()
    return np.concatenate([value.grad.double().flatten().numpy() for value in module.parameters()])


def test_every_network_of_the_table_is_held_to_these_claims() -> None:
    assert set(CASES) == set(BUILDERS)


@every_network
def test_a_patients_gradient_is_the_same_alone_and_in_company(case: NetworkCase) -> None:
    module = case.module().train()
    alone = [gradient(case, module, [patient]) for patient in PATIENTS]
    together = gradient(case, module, PATIENTS)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-3, atol=1e-5 * np.abs(together).max())


@every_network
def test_a_patients_answer_is_the_same_alone_and_in_company(case: NetworkCase) -> None:
    module = case.module().train()
    with torch.no_grad():
        together, alone = module(case.images(PATIENTS)), module(case.images(PATIENTS[:1]))
    pairs = [(together, alone)] if isinstance(together, torch.Tensor) else list(zip(together, alone, strict=True))[:3]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours[:1], theirs, rtol=1e-3, atol=1e-4)


@every_network
def test_every_parameter_gets_a_gradient(case: NetworkCase) -> None:
    module = case.module().train()
    gradient(case, module, PATIENTS)
    idle = [name for name, value in module.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


@every_network
def test_nothing_but_parameters_is_learned(case: NetworkCase) -> None:
    module = case.module()
    assert list(module.buffers()) == []
    assert all(value.requires_grad for value in module.parameters())


@every_network
def test_no_norm_looks_at_the_batch(case: NetworkCase) -> None:
    kinds = {type(module).__name__ for module in case.module().modules()}
    assert not [kind for kind in kinds if "BatchNorm" in kind]
    assert kinds & {"GroupNorm", "InstanceNorm3d", "LayerNorm"}


@every_network
def test_weights_written_to_another_copy_give_the_same_answers(case: NetworkCase) -> None:
    first, second = case.module(), build(case.network, task=case.task)
    flat = read_weights(first)
    assert flat.shape == (layout_of(first).size,)
    assert (read_weights(second) != flat).any()
    write_weights(second, flat)
    np.testing.assert_array_equal(read_weights(second), flat)
    assert layout_of(second).digest == layout_of(first).digest
    assert case.patients_loss(second.eval(), [1]) == case.patients_loss(first.eval(), [1])


@every_network
@pytest.mark.parametrize("task", [SEGMENTATION, CLASSIFICATION, MULTITASK], ids=lambda task: task.kind)
def test_a_network_is_made_for_its_own_task_only(case: NetworkCase, task: object) -> None:
    if type(task) is type(case.task):
        assert build(case.network, task=task) is not None
    else:
        with pytest.raises(ValueError, match=f"does {case.task.kind}, but the task is"):
            build(case.network, task=task)


@every_network
def test_a_few_steps_on_one_batch_lower_its_loss(case: NetworkCase) -> None:
    module = case.module().train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = case.patients_loss(module, PATIENTS)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
