"""What a classifier of whole images is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import Stopped
from fedward.evaluation.summary import CaseScore
from fedward.imaging.cases import Case
from fedward.imaging.whole_images import middle_of
from fedward.models.runtime import Runtime
from fedward.settings.job import TrainingJob


def image_probabilities(
    module: torch.nn.Module,
    cases: Sequence[Case],
    job: TrainingJob,
    *,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> NDArray[np.float64]:
    """Give the probability of every class for each case, shape ``(case, class)``.

    Args:
        module: The network on its device, in evaluation mode.
        cases: Prepared.
        job: Patch and batch size.
        runtime: How the network runs here.
        should_stop: Asked between batches.

    Raises:
        Stopped: ``aborted``.
    """
    count = job.training.batch_size
    found = [np.empty((0, len(job.task.classes)))]
    for start in range(0, len(cases), count):
        if should_stop():
            raise Stopped("aborted", f"validation was asked to end after {start} of {len(cases)} images")
        patches = [middle_of(case.image().array, job.training.patch_size) for case in cases[start : start + count]]
        images = runtime.place_batch(torch.from_numpy(np.stack(patches)[:, None]))
        with torch.inference_mode(), runtime.autocast():
            logits = module(images)
        found.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
    return np.concatenate(found)


def score_images(
    module: torch.nn.Module,
    cases: Sequence[Case],
    job: TrainingJob,
    *,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[CaseScore, ...]:
    """Score each image by 1 less half the squared distance between the probabilities and the truth, in [0, 1].

    Arguments and errors as in :func:`image_probabilities`.

    Source:
        Brier, Monthly Weather Review 78 (1950), eq. 2, halved and turned round: 1 is certain and right.
    """
    probabilities = image_probabilities(module, cases, job, runtime=runtime, should_stop=should_stop)
    truth = np.eye(len(job.task.classes))[[case.image_class for case in cases]]
    values = 1 - np.square(probabilities - truth).sum(axis=1) / 2
    return tuple(CaseScore(case.patient_key, (float(value),)) for case, value in zip(cases, values, strict=True))
