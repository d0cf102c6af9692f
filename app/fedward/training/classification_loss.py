"""What a wrong class costs."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def classification_loss(logits: torch.Tensor, labels: torch.Tensor, *, weights: Sequence[float]) -> torch.Tensor:
    """Give the batch's mean of ``-weights[label] * log p(label)``.

    The mean divides by the number of images, not by the sum of their weights as PyTorch's own weighted mean does: there
    the other patients' classes would change one patient's share.

    Args:
        logits: ``(batch, class)``.
        labels: ``(batch,)``, int64.
        weights: One a class.
    """
    of_class = torch.as_tensor(weights, dtype=torch.float32, device=logits.device)
    return torch.nn.functional.cross_entropy(logits.float(), labels, weight=of_class, reduction="sum") / len(labels)
