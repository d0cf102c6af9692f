from __future__ import annotations

import numpy as np
import pytest
import torch

from fedward.errors import ModelError
from fedward.models.norms import keeping_own, norm_mask, without_own
from fedward.models.weights import layout_of
from network_cases import CASES, NetworkCase


def test_only_norms_are_marked() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GroupNorm(1, 2), torch.nn.Linear(2, 1, bias=False))
    assert norm_mask(module).tolist() == [False] * 6 + [True] * 4 + [False] * 2


def test_a_network_without_norms_keeps_nothing() -> None:
    assert not norm_mask(torch.nn.Linear(2, 2)).any()


def test_another_networks_norms_are_refused() -> None:
    with pytest.raises(ModelError, match="wrong_layout"):
        keeping_own(np.ones(3, np.float32), np.ones(3, np.float32), np.array([True, False, True]))


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_every_network_has_norms_and_they_are_a_small_part(case: NetworkCase) -> None:
    module = case.module()
    mask = norm_mask(module)
    assert mask.shape == (layout_of(module).size,)
    assert 0 < mask.sum() < 0.1 * mask.size


def test_what_stays_at_a_site_is_neither_sent_nor_overwritten() -> None:
    mask = np.array([True, False, True])
    shared, own = np.array([1, 2, 3], np.float32), np.array([7, 9], np.float32)
    assert keeping_own(shared, own, mask).tolist() == [7, 2, 9]
    assert shared.tolist() == [1, 2, 3]
    sent = without_own(np.array([7, 8, 9], np.float32), mask)
    assert sent.tolist() == [0, 8, 0]
    assert sent.dtype == np.float32
