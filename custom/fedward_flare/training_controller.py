"""The server's side of a training job: rounds of train and average, and the best global model kept.

One task a round has each site validate the model that comes in and then train on it; a last task validates the last
model. What a round is, who counts and what the mean is stands in :mod:`fedward.federation`; this carries it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import FedwardError, ModelError, RoundFailed
from fedward.evaluation.tensorboard import Curves
from fedward.federation.averaging import apply_update
from fedward.federation.best import Choice, global_metric, noised_score
from fedward.federation.record import RoundRecord, SitePrivacy
from fedward.federation.round import Contribution, Failure, Participation, Round, Rules
from fedward.files import write_bytes
from fedward.hospital import Evaluated, TrainedRound
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.weights import layout_of, named
from fedward.release.package import model_bytes
from fedward.settings.job import TrainingJob
from fedward_flare import exchange, tasks
from fedward_flare.controllers import JobController, server_folder
from fedward_flare.heads import HEADS, SeenHeads
from fedward_flare.results import CURVES, MODEL

Weights = NDArray[np.float32]
Context = tuple[Signal, FLContext]
Metrics = Mapping[str, Mapping[str, float]]

_SCORE, _FALSE_POSITIVES = "validation_score", "validation_false_positives"


class TrainController(JobController):
    """Trains one model over the job's sites."""

    def __init__(self, signed_job: str) -> None:
        super().__init__(signed_job)
        if not isinstance(self._document.job, TrainingJob):
            raise ModelError("wrong_input", f"expected a training job, got {self._document.job.kind}")
        self._job = self._document.job
        self._participation = Participation(sites=self._document.sites)
        self._late: set[str] = set()
        self._heads = SeenHeads(Path())
        self._privacy: dict[str, SitePrivacy] = {}
        self._choice = Choice()
        self._best_weights: Weights | None = None

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        context = (abort_signal, fl_ctx)
        self._heads = SeenHeads(server_folder(fl_ctx) / HEADS)
        weights = initial_weights(self._job)
        with Curves(self._result_folder / CURVES) as curves:
            for number in range(1, self._job.training.rounds + 1):
                weights = self._round(number, weights, curves=curves, context=context)
            self._close_with_validation(weights, curves=curves, context=context)
        self._keep_best()

    def _round(self, number: int, weights: Weights, *, curves: Curves, context: Context) -> Weights:
        """Have the sites validate ``weights`` and train on them; give the next global model.

        Raises:
            RoundFailed: fewer sites than the job's minimum contributed.
            Stopped: the job was aborted.
        """
        started_s = time.monotonic()
        current = Round(number=number, rules=self._rules(weights.size), participation=self._participation)

        def receive(site: str, answer: Shareable) -> None:
            nonlocal current
            trained = _trained(answer)
            if isinstance(trained, TrainedRound):
                self._note_ledger(site, trained)
            current = current.receive(site, _contribution(trained))

        self._ask(
            tasks.TRAIN_TASK,
            exchange.pack_model(exchange.GlobalModel(number=number, weights=weights, heads=self._heads.known)),
            receive=receive,
            is_complete=lambda: current.is_complete,
            context=context,
        )
        self._participation = self._heard_late(current.next_participation())
        record = RoundRecord(
            number=number,
            seconds=time.monotonic() - started_s,
            weights={site: given.weight for site, given in current.contributions.items()},
            failures=current.all_failures(),
            privacy=dict(self._privacy),
        )
        self._record = self._record.with_round(record)
        outcome = current.close()
        spent = {f"epsilon/{site}": one.epsilon for site, one in self._privacy.items()}
        curves.add(number, {"round/seconds": record.seconds, "round/sites": len(outcome.weights), **spent})
        if number > 1:
            self._note_validation(number - 1, weights, metrics=outcome.metrics, shares=outcome.weights, curves=curves)
        return apply_update(weights, outcome.update)

    def _close_with_validation(self, weights: Weights, *, curves: Curves, context: Context) -> None:
        """Have the sites validate the last model; all rounds are done, so nobody's silence fails the job."""
        number = self._job.training.rounds
        answers: dict[str, Evaluated] = {}
        answered: set[str] = set()

        def receive(site: str, answer: Shareable) -> None:
            answered.add(site)
            evaluated = _evaluated(answer)
            if evaluated is not None and site in self._document.sites:
                self._note_ledger(site, evaluated)
                answers[site] = evaluated

        self._ask(
            tasks.EVALUATE_TASK,
            exchange.pack_model(exchange.GlobalModel(number=number + 1, weights=weights, heads=self._heads.known)),
            receive=receive,
            is_complete=lambda: set(self._participation.waited_for) <= answered,
            context=context,
        )
        # A site counts here with the weight that it gave in the rounds, whatever it says now.
        shares = {site: weight for site, weight in self._participation.weights.items() if site in answers}
        metrics = {site: answers[site].metrics for site in shares}
        self._record = self._record.with_privacy(number, self._privacy)
        self._note_validation(number, weights, metrics=metrics, shares=shares, curves=curves)

    def _note_ledger(self, site: str, answer: TrainedRound | Evaluated) -> None:
        """Keep what a site of this job says of its privacy ledger."""
        if site not in self._document.sites:
            return
        if answer.head is not None:
            self._heads.note(site, answer.head)
        if answer.spent is not None:
            self._privacy[site] = SitePrivacy(epsilon=answer.spent.epsilon, delta=answer.spent.delta)

    def _take_late(self, site: str, answer: Shareable) -> None:
        self._late.add(site)

    def _heard_late(self, participation: Participation) -> Participation:
        """Wait again for the sites that have answered an earlier round by now."""
        while self._late:
            participation = participation.heard(self._late.pop())
        return participation

    def _note_validation(
        self, number: int, weights: Weights, *, metrics: Metrics, shares: Mapping[str, int], curves: Curves
    ) -> None:
        """Record what the sites say of the model that round ``number`` ended with, and keep it if it is the best."""
        score = noised_score(metrics) if self._job.privacy else global_metric(metrics, shares, _SCORE)
        false_positives = global_metric(metrics, shares, _FALSE_POSITIVES)
        self._choice = self._choice.after(number, score)
        best = self._choice.best
        if best is not None and best.round_number == number:
            self._best_weights = weights
            self._record = self._record.with_best(best, hashlib.sha256(weights.tobytes()).hexdigest())
        self._record = self._record.with_validation(
            number, score=score, false_positives=false_positives, metrics=metrics
        )
        curves.add(number, _named({"all": _known(score, false_positives), **metrics}))

    def _keep_best(self) -> None:
        if self._best_weights is None:
            raise RoundFailed("too_few_sites", "no model was validated")
        layout = layout_of(build(self._job.network, task=self._job.task))
        write_bytes(self._result_folder / MODEL, model_bytes(named(layout, self._best_weights)), mode=0o644)

    def _rules(self, size: int) -> Rules:
        return Rules(
            size=size,
            max_update_norm=self._job.exchange.max_update_norm,
            weight_cap=self._job.exchange.weight_cap,
            minimum=self._job.sites.minimum,
        )


def _trained(answer: Shareable) -> TrainedRound | Failure:
    failure = exchange.failure_of(answer)
    if failure is not None:
        return Failure(failure)
    try:
        return exchange.unpack_trained(answer)
    except FedwardError as error:
        return Failure(error.code)


def _contribution(trained: TrainedRound | Failure) -> Contribution | Failure:
    if isinstance(trained, Failure):
        return trained
    return Contribution(update=trained.update, weight=trained.weight, metrics=trained.metrics)


def _evaluated(answer: Shareable) -> Evaluated | None:
    try:
        return exchange.unpack_evaluated(answer) if exchange.failure_of(answer) is None else None
    except FedwardError:
        return None


def _known(score: float | None, false_positives: float | None) -> dict[str, float]:
    values = {_SCORE: score, _FALSE_POSITIVES: false_positives}
    return {name: value for name, value in values.items() if value is not None}


def _named(metrics: Metrics) -> dict[str, float]:
    return {f"{name}/{site}": value for site, values in metrics.items() for name, value in values.items()}
