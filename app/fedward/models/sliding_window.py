"""A network over a whole volume, window by window, and its answer on the patient's own grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray

from fedward.dicom.volume import Volume
from fedward.errors import Stopped
from fedward.imaging.grid import Grid, ModelImage, Prediction, source_grid, to_model_grid, to_source_grid
from fedward.models.runtime import Runtime
from fedward.settings.job import Input

#: Share of a window that overlaps the next; Gaussian weights make the windows' seams vanish.
_OVERLAP = 0.5
_WINDOWS_AT_A_TIME = 4


def predict(
    module: torch.nn.Module,
    volume: Volume,
    settings: Input,
    patch_size: tuple[int, int, int],
    *,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> Prediction:
    """Run a network over a volume and give its answer on the volume's own grid.

    Memory stays within the model grid's probabilities and a few windows; the way back goes in chunks of slices.

    Raises:
        Stopped: ``aborted``, when ``should_stop`` says so between windows.
    """
    image = to_model_grid(volume, settings)
    return predict_image(module, image, grid_of(volume), patch_size, runtime=runtime, should_stop=should_stop)


def grid_of(volume: Volume) -> Grid:
    """Give a volume's own grid."""
    slices, rows, columns = volume.array.shape
    return source_grid((slices, rows, columns), volume.affine)


def predict_image(
    module: torch.nn.Module,
    image: ModelImage,
    source: Grid,
    patch_size: tuple[int, int, int],
    *,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> Prediction:
    """Do the same for an image that already lies on the model grid; ``source`` is where the answer goes."""

    def check() -> None:
        if should_stop():
            raise Stopped("aborted", "the prediction was asked to end")

    probabilities = foreground_probabilities(module, image.array, patch_size, runtime=runtime, check=check)
    return to_source_grid(probabilities, image.affine, source, check=check)


def foreground_probabilities(
    module: torch.nn.Module,
    array: NDArray[np.float32],
    patch_size: tuple[int, int, int],
    *,
    runtime: Runtime,
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Give each class's probability on the model grid, shape ``(class, superior, posterior, left)``, float32.

    A window of one single value, as in the air around a patient, holds no finding and is not asked about.

    Args:
        module: Already placed by ``runtime``; left in the mode (training or not) that it was in.
        array: The image on the model grid. An axis shorter than a window is padded with zeros, as in training.
        patch_size: The window.
        runtime: How the network runs.
        check: Called before each batch of windows; raises to abort.
    """

    def foreground(windows: torch.Tensor) -> torch.Tensor:
        check()
        shows = windows.flatten(1).amax(dim=1) > windows.flatten(1).amin(dim=1)
        asked = shows if shows.any() else torch.arange(len(windows)) < 1
        with runtime.autocast():
            logits = module(runtime.place_batch(windows[asked]))
        found = torch.softmax(logits.float(), dim=1)[:, 1:]
        answer = found.new_zeros((len(windows), *found.shape[1:]))
        answer[asked] = found * shows[asked].to(found.device).view(-1, 1, 1, 1, 1)
        return answer

    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            blended = sliding_window_inference(
                torch.from_numpy(np.array(array, dtype=np.float32))[None, None],
                patch_size,
                _WINDOWS_AT_A_TIME,
                foreground,
                overlap=_OVERLAP,
                mode="gaussian",
                sw_device=runtime.device,
                device="cpu",
            )
    finally:
        module.train(was_training)
    return np.asarray(torch.as_tensor(blended)[0].numpy(), dtype=np.float32)
