"""What wrong voxels cost."""

from __future__ import annotations

import torch
from monai.losses.dice import DiceCELoss

from fedward.models.runtime import Runtime


def segmentation_loss(
    module: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, runtime: Runtime
) -> torch.Tensor:
    """Give the mean loss of a batch ``(batch, 1, superior, posterior, left)``: no patch changes another one's share."""
    with runtime.autocast():
        logits = module(images)
    loss: torch.Tensor = _LOSS(logits.float(), labels)
    return loss


#: Added to both sides of the Dice ratio. Without it a patch that holds no lesion costs the same whether one voxel is
#: marked or a thousand, and the network learns to mark too much.
_SMOOTHING_VOXELS = 50.0

#: Dice of each patch by itself (``batch=False``: patients stay independent) plus cross-entropy.
_LOSS = DiceCELoss(
    softmax=True,
    to_onehot_y=True,
    include_background=False,
    batch=False,
    smooth_nr=_SMOOTHING_VOXELS,
    smooth_dr=_SMOOTHING_VOXELS,
)
