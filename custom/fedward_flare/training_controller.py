"""The server's side of a training job: rounds of train and average, and the best global model kept.

One task a round has each site validate the model that comes in and then train on it; a last task validates the last
model. What a round is, who counts and what the mean is stands in :mod:`fedward.federation`; this carries it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from numpy.typing import NDArray

from fedward.errors import FedwardError, ModelError, RoundFailed
from fedward.evaluation.tensorboard import Curves
from fedward.federation.averaging import apply_update
from fedward.federation.best import Best
from fedward.federation.round import Answer, Contribution, Failure, Outcome, Participation, Round
from fedward.models.initial import initial_weights
from fedward.release.model_file import write_model
from fedward.settings.job import TrainingJob
from fedward_flare import exchange
from fedward_flare.controllers import JobController
from fedward_flare.results import CURVES, MODEL

Weights = NDArray[np.float32]
Context = tuple[Signal, FLContext]


class TrainController(JobController):
    """Trains one model over the job's sites."""

    def __init__(self, signed_job: str) -> None:
        super().__init__(signed_job)
        if not isinstance(self._document.job, TrainingJob):
            raise ModelError("wrong_input", f"expected a training job, got {self._document.job.kind}")
        self._job = self._document.job
        self._participation = Participation(sites=self._document.sites)
        self._best = Best()

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        context = (abort_signal, fl_ctx)
        weights = initial_weights(self._job)
        with Curves(self._result_folder / CURVES) as curves:
            for number in range(1, self._job.training.rounds + 1):
                outcome = self._round(number, weights, context)
                self._note_validation(outcome, weights, curves)
                self._note_round(outcome, curves)
                weights = apply_update(weights, outcome.mean_update)
            with contextlib.suppress(RoundFailed):  # all rounds are done: only the last model's score is lost
                self._note_validation(self._round(self._job.training.rounds + 1, weights, context), weights, curves)
        self._keep_best(weights)

    def _round(self, number: int, weights: Weights, context: Context) -> Outcome:
        """Have every site validate and train or, after the last round, validate alone.

        Raises:
            RoundFailed: fewer sites than the job's minimum contributed.
            Stopped: the job was aborted.
        """
        closing = number > self._job.training.rounds
        model = exchange.GlobalModel(number=number, weights=weights, evaluate=number > 1)
        self._current = Round.expect(
            number,
            sites=self._document.sites,
            waited_for=self._participation.waited_for,
            minimum=self._job.sites.minimum,
            started_s=time.monotonic(),
        )
        self._ask(
            exchange.EVALUATE_TASK if closing else exchange.TRAIN_TASK,
            exchange.pack_model(model),
            receive=lambda site, answer: self._receive(site, _answer(answer, closing=closing)),
            is_complete=lambda: self._current.is_complete,
            context=context,
        )
        outcome = self._current.close(now_s=time.monotonic())
        self._participation = self._participation.after(outcome)
        return outcome

    def _receive(self, site: str, answer: Answer) -> None:
        self._current = self._current.receive(site, answer, now_s=time.monotonic())

    def _take_late(self, site: str, answer: Shareable) -> None:  # noqa: ARG002  what it holds is of a round that is over
        self._participation = self._participation.answered(site)

    def _note_validation(self, outcome: Outcome, weights: Weights, curves: Curves) -> None:
        """Keep the model that the sites have just validated if no earlier one was better."""
        number = outcome.number - 1
        score = outcome.score
        if score is None:
            return
        self._best = self._best.consider(number, weights, score)
        self._record = self._record.with_score(number, score, outcome.metrics, best_round=self._best.number)
        curves.add(number, {"validation/score": score, **_named(outcome.metrics)})

    def _note_round(self, outcome: Outcome, curves: Curves) -> None:
        self._record = self._record.with_round(outcome)
        curves.add(outcome.number, {"round/seconds": outcome.seconds, "round/sites": len(outcome.contributors)})

    def _keep_best(self, last: Weights) -> None:
        """Write the best model; without any score that the sites share, the last one."""
        weights = self._best.weights if self._best.weights is not None else last
        write_model(self._result_folder / MODEL, weights, self._job)
        self._record = self._record.with_model(weights)


def _answer(message: Shareable, *, closing: bool) -> Answer:
    failure = exchange.failure_of(message)
    if failure is not None:
        return Failure(failure)
    try:
        if closing:
            evaluated = exchange.unpack_evaluated(message)
            return Contribution(update=None, weight=evaluated.weight, metrics=evaluated.metrics)
        trained = exchange.unpack_trained(message)
        return Contribution(update=trained.update, weight=trained.weight, metrics=trained.metrics)
    except FedwardError as error:
        return Failure(error.code)


def _named(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{site}/{name}": value for site, values in metrics.items() for name, value in values.items()}
