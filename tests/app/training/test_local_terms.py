from __future__ import annotations

import numpy as np
import torch

from fedward.models.weights import read_weights, write_weights
from fedward.training.local_terms import LocalTerm, next_control


def module_at(flat: list[float]) -> torch.nn.Module:
    module = torch.nn.Linear(2, 1)
    write_weights(module, np.array(flat, np.float32))
    return module


def gradient(module: torch.nn.Module) -> list[float]:
    return torch.cat([value.grad.flatten() for value in module.parameters()]).tolist()  # type: ignore[union-attr]


def test_the_proximal_term_is_its_losss_gradient() -> None:
    module, anchor = module_at([1, 2, 3]), np.array([0, 2, 5], np.float32)
    flat = torch.cat([value.flatten() for value in module.parameters()])
    (0.25 * (flat - torch.from_numpy(anchor)).square().sum()).backward()
    expected = gradient(module)
    module.zero_grad()
    LocalTerm(0.5, anchor).add_to(module)
    assert gradient(module) == expected == [0.5, 0.0, -1.0]


def test_both_terms_are_added_to_what_is_there() -> None:
    module = module_at([1, 2, 3])
    module(torch.tensor([[10.0, 20.0]])).sum().backward()
    LocalTerm(1.0, np.zeros(3, np.float32), np.array([0.5, 0.25, -4], np.float32)).add_to(module)
    assert gradient(module) == [11.5, 22.25, 0.0]


def test_without_terms_nothing_changes() -> None:
    module = module_at([1, 2, 3])
    module(torch.tensor([[10.0, 20.0]])).sum().backward()
    LocalTerm(0.0, np.ones(3, np.float32)).add_to(module)
    assert gradient(module) == [10.0, 20.0, 1.0]
    assert read_weights(module).tolist() == [1, 2, 3]


def test_a_sites_control_is_its_mean_gradient_once_the_servers_is_known() -> None:
    # Three steps of rate 0.1 along gradients 2 + (server - own): the update is -0.3 of them.
    own, of_server = np.array([0.5], np.float32), np.array([1.5], np.float32)
    update = -0.3 * (np.array([2.0], np.float32) + of_server - own)
    np.testing.assert_allclose(next_control(own, of_server, update, local_distance=0.3), [2.0], rtol=1e-6)
