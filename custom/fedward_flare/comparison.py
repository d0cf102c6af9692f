"""The global model against what each hospital would have alone, on the same held-out patients of all hospitals.

Possible only where one machine holds every hospital's images: phantoms and public sets.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedward.evaluation.bootstrap import Interval, mean_interval, paired_difference
from fedward.evaluation.local_only import Scores, prepare_worker, score_alone, score_on_sites
from fedward.evaluation.summary import CaseScore, summarise, values_by_patient
from fedward.evaluation.summary import Scores as Summary
from fedward.models.networks import build
from fedward.models.weights import flattened, layout_of
from fedward.randomness import Seeded
from fedward.release.package import parameters_of
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings


class Comparison:
    """The local-only models in training, in worker processes of their own."""

    def __init__(self, pool: Pool, sites: Sequence[SiteSettings], job: TrainingJob) -> None:
        self._pool = pool
        self._sites = tuple(sites)
        self._job = job
        self._alone = {site.name: pool.apply_async(score_alone, (site.name, self._sites, job)) for site in sites}

    def finish(
        self, weights: NDArray[np.float32], *, seed: int, progress: Callable[[int, int], None] = lambda *_: None
    ) -> dict[str, Any]:
        """Score the global ``weights`` too, wait for all, and give the figures of the summary.

        Args:
            weights: The released model, flat float32.
            seed: Of the bootstrap.
            progress: Called with the models done and their number.
        """
        ours = self._pool.apply_async(score_on_sites, (weights, self._sites, self._job))
        total = len(self._alone) + 1
        global_scores: Scores = ours.get()
        local: dict[str, Scores] = {}
        for name, result in self._alone.items():
            progress(len(local) + 1, total)
            local[name] = result.get()
        progress(total, total)
        return _figures(global_scores, local, seed=seed)


@contextmanager
def comparing(sites: Sequence[SiteSettings], job: TrainingJob) -> Iterator[Comparison]:
    """Start the local-only models; whatever still runs at the end of the block is ended."""
    workers = min(len(sites), os.cpu_count() or 1)
    with multiprocessing.get_context("spawn").Pool(workers, initializer=prepare_worker) as pool:
        yield Comparison(pool, sites, job)


def score_model(model: bytes, sites: Sequence[SiteSettings], job: TrainingJob) -> Summary:
    """Score the content of a job's ``model.safetensors`` on the held-out patients of all sites.

    Raises:
        ModelError: it is not the job's network.
    """
    weights = flattened(layout_of(build(job.network, task=job.task)), parameters_of(model))
    return summarise(_flat(score_on_sites(weights, sites, job)))


def _figures(ours: Scores, local: Mapping[str, Scores], *, seed: int) -> dict[str, Any]:
    cases = _flat(ours)
    generator = Seeded(seed).generator("bootstrap")
    summary = summarise(cases)
    return {
        "global_dice": summary.score,
        "global_dice_interval": _ends(mean_interval(values_by_patient(cases), generator)),
        "global_false_positives_per_scan": summary.false_positives_per_scan,
        "held_out_scans": summary.cases,
        "held_out_lesions": summary.values,
        "global_dice_by_site": {name: summarise(of_site).score for name, of_site in ours.items()},
        "local_dice": {name: summarise(_flat(scores)).score for name, scores in local.items()},
        "local_false_positives_per_scan": {
            name: summarise(_flat(scores)).false_positives_per_scan for name, scores in local.items()
        },
        "global_minus_local_interval": {
            name: _ends(paired_difference(values_by_patient(cases), values_by_patient(_flat(scores)), generator))
            for name, scores in local.items()
        },
    }


def _flat(scores: Scores) -> tuple[CaseScore, ...]:
    return tuple(score for of_site in scores.values() for score in of_site)


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]
