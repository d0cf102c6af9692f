"""The whole way from a volume and a model to findings."""

from __future__ import annotations

from collections.abc import Callable

from fedward.dicom.volume import Volume
from fedward.errors import ReleaseRefused
from fedward.inference.lesions import Inference, find_lesions
from fedward.inference.model import LoadedModel
from fedward.models.runtime import Runtime
from fedward.models.sliding_window import predict
from fedward.randomness import Secret


def infer_volume(
    model: LoadedModel,
    volume: Volume,
    *,
    runtime: Runtime,
    randomness: Secret,
    should_stop: Callable[[], bool] = lambda: False,
) -> Inference:
    """Run ``model`` over ``volume`` and measure what it finds, on the volume's own grid.

    Args:
        model: An activated release.
        volume: The image, of the modality that the model was trained on.
        runtime: Device and precision.
        randomness: Draws the tracking UIDs.
        should_stop: Asked between windows.

    Raises:
        ReleaseRefused: ``wrong_modality``, the model was trained on another one.
        Stopped: ``aborted``, when ``should_stop`` says so.
    """
    if volume.modality != model.input.modality:
        raise ReleaseRefused(
            "wrong_modality", f"the model reads {model.input.modality} series, this one is {volume.modality}"
        )
    prediction = predict(model.network, volume, model.input, model.patch_size, runtime=runtime, should_stop=should_stop)
    return find_lesions(prediction.labels, prediction.probability, volume, task=model.task, randomness=randomness)
