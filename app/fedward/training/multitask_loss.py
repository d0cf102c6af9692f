"""Three losses in one, each weighed by an uncertainty that is learned with the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.losses.dice import DiceCELoss

from fedward.models.multitask_densenet3d import MultiTaskAnswer
from fedward.settings.tasks import MultiTask

#: Log variances are bent to stay within this bound, so that a task that is learned by heart does not drown the others:
#: exp(4) is a weight of 55. Bent, not cut: beyond a cut no gradient would lead back.
_BOUND = 4.0

#: Added to both sides of the Dice ratio, as in segmentation alone.
_SMOOTHING_VOXELS = 50.0

_DICE_CE = DiceCELoss(
    softmax=True,
    to_onehot_y=True,
    include_background=False,
    batch=False,
    smooth_nr=_SMOOTHING_VOXELS,
    smooth_dr=_SMOOTHING_VOXELS,
)


@dataclass(frozen=True, eq=False)
class MultiTaskTruth:
    """What is known of a batch of lesions.

    Attributes:
        voxels: ``(batch, 1, superior, posterior, left)``, the class of each voxel, 0 background.
        malignancy: ``(batch,)``, float32: 1 positive, 0 not, NaN unknown.
        diameter_mm: ``(batch,)``, float32: NaN unknown.
    """

    voxels: torch.Tensor
    malignancy: torch.Tensor
    diameter_mm: torch.Tensor


def multitask_loss(answer: MultiTaskAnswer, truth: MultiTaskTruth, *, task: MultiTask) -> torch.Tensor:
    """Give the batch's mean of ``sum over tasks of exp(-s) * loss + s / 2``, s the task's learned log variance.

    s is bent to stay within 4 of 0. The losses: Dice with cross-entropy (voxels), weighted cross-entropy (malignancy),
    and half the squared error in units of ``task.typical_diameter_mm``, linear beyond one unit (diameter). What is
    unknown of a lesion costs nothing and moves nothing, its share of s included. No lesion changes another one's share.

    Source:
        Kendall, Gal & Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, eq. 7 to 10.
    """
    knows = torch.stack(
        [torch.ones_like(truth.malignancy), torch.isfinite(truth.malignancy), torch.isfinite(truth.diameter_mm)], dim=1
    )
    losses = torch.stack(
        [
            _voxels(answer.segmentation, truth.voxels),
            _malignancy(answer.malignancy, torch.nan_to_num(truth.malignancy), task),
            _diameter(answer.diameter_mm, torch.nan_to_num(truth.diameter_mm), task),
        ],
        dim=1,
    )
    log_variances = _BOUND * torch.tanh(answer.log_variances.float() / _BOUND)
    weighed = torch.exp(-log_variances) * losses + log_variances / 2
    return (weighed * knows).sum(dim=1).mean()


def _voxels(logits: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    pairs = zip(torch.split(logits.float(), 1), torch.split(voxels, 1), strict=True)
    return torch.stack([_DICE_CE(ours, theirs) for ours, theirs in pairs])


def _malignancy(logits: torch.Tensor, labels: torch.Tensor, task: MultiTask) -> torch.Tensor:
    negative, positive = task.class_weights
    weights = negative + (positive - negative) * labels
    return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none") * weights


def _diameter(predicted_mm: torch.Tensor, diameter_mm: torch.Tensor, task: MultiTask) -> torch.Tensor:
    scale = task.typical_diameter_mm
    return torch.nn.functional.smooth_l1_loss(predicted_mm / scale, diameter_mm / scale, reduction="none")
