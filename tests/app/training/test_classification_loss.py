from __future__ import annotations

import math

import torch

from fedward.training.classification_loss import classification_loss


def test_a_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    loss = classification_loss(logits, torch.tensor([0, 1]), weights=(1.0, 2.0))
    assert math.isclose(loss.item(), (math.log(2) + 2 * math.log(4 / 3)) / 2, rel_tol=1e-6)


def test_another_patients_class_does_not_change_a_patients_share() -> None:
    logits = torch.tensor([[0.3, -0.2], [1.0, 0.5]])
    alone = [classification_loss(logits[:1], torch.tensor([0]), weights=(1.0, 9.0)) / 2]
    for other in (0, 1):
        both = classification_loss(logits, torch.tensor([0, other]), weights=(1.0, 9.0))
        second = classification_loss(logits[1:], torch.tensor([other]), weights=(1.0, 9.0)) / 2
        torch.testing.assert_close(both, alone[0] + second)
