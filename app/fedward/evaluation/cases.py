"""What weights are worth on a site's own labelled cases, in patient space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.evaluation.centred import score_lesions_of, score_places
from fedward.evaluation.images import score_images
from fedward.evaluation.summary import CaseScore, score_case
from fedward.imaging.cases import Case
from fedward.models.runtime import Runtime, evaluation_network
from fedward.models.sliding_window import predict_image
from fedward.settings.job import TrainingJob
from fedward.settings.tasks import Classification, MultiTask, is_of_images


def score_cases(
    weights: NDArray[np.float32],
    cases: Sequence[Case],
    job: TrainingJob,
    *,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[CaseScore, ...]:
    """Score every case: a segmentation by sliding window on the series' own grid, whole images, or place by place.

    Args:
        weights: Flat float32 of the job's network.
        cases: Labelled and prepared.
        job: Network, task and window size.
        runtime: How the network runs here.
        should_stop: Asked between windows.

    Raises:
        ModelError: the weights are another network's.
        Stopped: ``aborted``.
    """
    module = evaluation_network(job.network, weights, task=job.task, runtime=runtime)
    if is_of_images(job.task):
        return score_images(module, cases, job, runtime=runtime, should_stop=should_stop)
    return tuple(_score(module, case, job, runtime=runtime, should_stop=should_stop) for case in cases)


def _score(
    module: torch.nn.Module, case: Case, job: TrainingJob, *, runtime: Runtime, should_stop: Callable[[], bool]
) -> CaseScore:
    if isinstance(job.task, Classification):
        return score_places(module, case, job, task=job.task, runtime=runtime, should_stop=should_stop)
    if isinstance(job.task, MultiTask):
        return score_lesions_of(module, case, job, task=job.task, runtime=runtime, should_stop=should_stop)
    prediction = predict_image(
        module, case.image(), case.source, job.training.patch_size, runtime=runtime, should_stop=should_stop
    )
    return score_case(
        prediction.labels,
        prediction.probability,
        case.truth(),
        affine=case.affine,
        task=job.task,
        patient=case.patient_key,
    )
