"""A network's answers to the patches around places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.imaging.centred import Voxel, cut_around
from fedward.imaging.patches import Number
from fedward.models.runtime import Runtime


def answers_around(
    module: torch.nn.Module,
    array: NDArray[Number],
    places: Sequence[Voxel],
    patch_size: tuple[int, int, int],
    *,
    batch_size: int,
    runtime: Runtime,
    check: Callable[[int], None] = lambda _: None,
) -> Iterator[Any]:
    """Give what the network says of the patches around ``places``, a batch at a time.

    Args:
        module: Placed by ``runtime``, in evaluation mode.
        array: The image on the model grid; what lies outside it is zero, as in training.
        places: Voxels of the model grid.
        patch_size: What the network sees.
        batch_size: Patches at a time.
        runtime: How the network runs.
        check: Called before each batch with the number of places that are done; raises to abort.
    """
    for start in range(0, len(places), batch_size):
        check(start)
        patches = np.stack([cut_around(array, place, patch_size) for place in places[start : start + batch_size]])
        images = runtime.place_batch(torch.from_numpy(patches.astype(np.float32))[:, None])
        with torch.inference_mode(), runtime.autocast():
            answer = module(images)
        yield answer
