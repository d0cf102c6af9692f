"""The server's side of a training job: rounds of train and combine, and the best global model kept.

One task a round has each site validate the model that comes in and then train on it; a last task validates the last
model. What a round is, who counts and what becomes of the updates stands in :mod:`fedward.federation`; this carries it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import FedwardError, ModelError, RoundFailed
from fedward.evaluation.ranges import collected
from fedward.evaluation.tensorboard import Curves
from fedward.federation.algorithms import Control, RoundFacts, RoundStart, State, server_of
from fedward.federation.best import Choice, global_metric, noised_score
from fedward.federation.ckks import Encrypted
from fedward.federation.record import RoundRecord, SitePrivacy
from fedward.federation.round import Contribution, Failure, Participation, Round, Rules
from fedward.federation.secure_job import sums_at_the_end
from fedward.federation.secure_messages import Masked
from fedward.files import write_bytes
from fedward.hospital import Evaluated, TrainedRound
from fedward.inference.load import flat_weights
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.weights import layout_of, named
from fedward.release.package import model_bytes, read_parts
from fedward.release.passport import parse_passport
from fedward.settings.algorithms import Scaffold
from fedward.settings.job import TrainingJob
from fedward.training.optimiser import local_distance
from fedward_flare import exchange, tasks
from fedward_flare.checkpoint import Checkpoint, Committed
from fedward_flare.controllers import Context, application_folder
from fedward_flare.heads import SeenHeads
from fedward_flare.jobs import RELEASE
from fedward_flare.results import CURVES, MODEL
from fedward_flare.summing_controller import SummingController

Weights = NDArray[np.float32]
Metrics = Mapping[str, Mapping[str, float]]

_SCORE, _FALSE_POSITIVES = "validation_score", "validation_false_positives"


class TrainController(SummingController):
    """Trains one model over the job's sites."""

    def __init__(self, signed_job: str) -> None:
        super().__init__(signed_job)
        if not isinstance(self._document.job, TrainingJob):
            raise ModelError("wrong_input", f"expected a training job, got {self._document.job.kind}")
        self._job = self._document.job
        self._server = server_of(self._job.algorithm)
        self._state: State = ()
        self._participation = Participation(sites=self._document.sites)
        self._late: set[str] = set()
        self._heads = SeenHeads(Path())
        self._privacy: dict[str, SitePrivacy] = {}
        self._choice = Choice()
        self._best_weights: Weights | None = None

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        context = (abort_signal, fl_ctx)
        self._heads = self._heads_at(fl_ctx)
        checkpoint = self._checkpoint_at(fl_ctx)
        done, weights = self._restored(checkpoint, fl_ctx)
        self._open_sums(self._job, size=weights.size, checkpoint=checkpoint, fl_ctx=fl_ctx)
        with Curves(self._result_folder / CURVES) as curves:
            for number in range(done + 1, self._job.training.rounds + 1):
                if self._choice.has_stalled(patience=self._job.training.patience):
                    break
                done = number
                weights = self._round(number, weights, curves=curves, context=context)
                checkpoint.write(
                    Committed(
                        number,
                        weights,
                        self._best_weights,
                        self._state,
                        self._record,
                        self._choice,
                        self._participation,
                    )
                )
            self._close_with_validation(done, weights, curves=curves, context=context)
        self._keep_best()
        checkpoint.remove()

    def _restored(self, checkpoint: Checkpoint, fl_ctx: FLContext) -> tuple[int, Weights]:
        """Go on from the last committed round, or begin; give its number and the model."""
        committed = checkpoint.read()
        if committed is None:
            weights = self._first_weights(fl_ctx)
            self._state = self._server.init(weights)
            return 0, weights
        self._record = committed.record
        self._choice, self._participation = committed.choice, committed.participation
        self._best_weights, self._state = committed.best_weights, committed.state
        return committed.number, committed.weights

    def _first_weights(self, fl_ctx: FLContext) -> Weights:
        """Draw the weights from the job's seed, or take those of the release that it starts from."""
        if self._job.start_from is None:
            return initial_weights(self._job)
        parts = read_parts(application_folder(fl_ctx) / RELEASE)
        passport = parse_passport(parts.passport)
        if passport.layout_digest != layout_of(build(self._job.network, task=self._job.task)).digest:
            raise ModelError("wrong_layout", f"{passport.name}-{passport.number} is another network than the job's")
        return flat_weights(parts, passport)

    def _round(self, number: int, weights: Weights, *, curves: Curves, context: Context) -> Weights:
        """Have the sites validate ``weights`` and train on them; give the next global model.

        Under an encrypted sum a round that cannot be opened is tried again after another set-up: the sites train
        nothing anew, and give the same update under fresh masks.

        Raises:
            RoundFailed: fewer sites than the job's minimum contributed.
            Stopped: the job was aborted.
        """
        return self._summed(lambda: self._try_round(number, weights, curves=curves, context=context))

    def _try_round(self, number: int, weights: Weights, *, curves: Curves, context: Context) -> Weights:
        started_s = time.monotonic()
        current = Round(number=number, rules=self._rules(weights.size), participation=self._participation)

        def receive(site: str, answer: Shareable) -> None:
            nonlocal current
            trained = _trained(answer)
            if isinstance(trained, TrainedRound):
                self._note_ledger(site, trained)
            current = current.receive(site, self._contribution(site, trained))

        start = RoundStart(number, weights, self._control(number))
        message = exchange.pack_model(exchange.GlobalModel(number, weights, self._heads.known, start.control))
        if self._sums is not None:
            try:
                self._sums.set_up(number, self._carriers(context))
            except RoundFailed:
                failures = {**current.all_failures(), **self._sums.failures}
                seconds = time.monotonic() - started_s
                self._record = self._record.with_round(
                    RoundRecord(number=number, seconds=seconds, weights={}, failures=failures)
                )
                raise
            self._sums.open_round(number, start.sha256)
            message = self._sums.complete(message)
        self._ask(tasks.TRAIN_TASK, message, receive=receive, is_complete=lambda: current.is_complete, context=context)
        self._participation = self._heard_late(current.next_participation())
        mean: Weights | None = None
        summed: Metrics = {}
        failure: RoundFailed | None = None
        try:
            current.check_minimum()
            if self._sums is not None:
                self._sums.note(current.failures.values())
                decoded = self._sums.finish(number, self._carriers(context))
                mean, summed = decoded.update, {"all": decoded.metrics}
        except RoundFailed as error:
            failure = error
        record = RoundRecord(
            number=number,
            seconds=time.monotonic() - started_s,
            weights={site: given.weight for site, given in current.contributions.items()},
            failures=current.all_failures(),
            privacy=dict(self._privacy),
        )
        self._record = self._record.with_round(record)
        if failure is not None:
            raise failure
        outcome = current.close(mean, combine=self._server.combine)
        spent = {f"epsilon/{site}": one.epsilon for site, one in self._privacy.items()}
        curves.add(number, {"round/seconds": record.seconds, "round/sites": len(outcome.weights), **spent})
        if number == 1:
            self._record = self._record.with_trained_on(collected(summed or outcome.metrics, self._job.input))
        else:
            self._note_validation(
                number - 1, weights, metrics=outcome.metrics, shares=outcome.weights, summed=summed, curves=curves
            )
        facts = self._facts(number, outcome.weights, current.participation.weights)
        following, self._state = self._server.apply(self._state, weights, outcome.update, facts)
        return following

    def _facts(self, number: int, weights: Mapping[str, int], before: Mapping[str, int]) -> RoundFacts:
        """Give what the algorithm may know of a round: ``before`` are the weights known when it began."""
        total = sum(self._participation.weights.values())
        return RoundFacts(
            share=sum(weights.values()) / total,
            known=sum(before.values()) / total,
            local_distance=local_distance(number, self._job.training),
        )

    def _control(self, number: int) -> Control | None:
        """Give what SCAFFOLD sends beside the model."""
        if not isinstance(self._job.algorithm, Scaffold):
            return None
        earlier = sorted((entry for entry in self._record.rounds if entry.number < number), key=lambda one: one.number)
        return Control(self._state[0], {site: entry.number for entry in earlier for site in entry.weights})

    def _close_with_validation(self, done: int, weights: Weights, *, curves: Curves, context: Context) -> None:
        """Have the sites validate the model that round ``done`` ended with; nobody's silence fails the job any more."""
        number = self._job.training.rounds
        sums = self._sums if sums_at_the_end(self._job) else None
        answers: dict[str, Evaluated] = {}
        answered: set[str] = set()

        def receive(site: str, answer: Shareable) -> None:
            answered.add(site)
            evaluated = _evaluated(answer)
            if evaluated is None or site not in self._document.sites:
                return
            if sums is None or sums.receive(site, evaluated.masked) is None:
                self._note_ledger(site, evaluated)
                answers[site] = evaluated

        message = exchange.pack_model(exchange.GlobalModel(number=number + 1, weights=weights, heads=self._heads.known))
        summed: Metrics = {}
        try:
            if sums is not None:
                sums.set_up(number + 1, self._carriers(context))
                sums.open_round(number + 1, _digest(weights))
                message = sums.complete(message)
            self._ask(
                tasks.EVALUATE_TASK,
                message,
                receive=receive,
                is_complete=lambda: set(self._participation.waited_for) <= answered,
                context=context,
            )
            if sums is not None:
                summed = {"all": sums.finish(number + 1, self._carriers(context)).metrics}
        except RoundFailed as error:
            self.logger.warning(f"the closing validation of job {self._document.id} was not summed: {error.code}")
        # A site counts here with the weight that it gave in the rounds, whatever it says now.
        shares = {site: weight for site, weight in self._participation.weights.items() if site in answers}
        metrics = {site: answers[site].metrics for site in shares}
        self._record = self._record.with_privacy(done, self._privacy)
        self._note_validation(done, weights, metrics=metrics, shares=shares, summed=summed, curves=curves)

    def _contribution(self, site: str, trained: TrainedRound | Failure) -> Contribution | Failure:
        """Give what a site's answer is to the round; a masked vector goes into the sum at once and is not kept."""
        if isinstance(trained, Failure):
            return trained
        update = trained.update
        if self._sums is None and not isinstance(update, Masked | Encrypted):
            return Contribution(update=update, weight=trained.weight, metrics=trained.metrics)
        if self._sums is None or not isinstance(update, Masked | Encrypted):
            return Failure("malformed_message")
        failure = self._sums.receive(site, update)
        return failure or Contribution(update=None, weight=trained.weight, metrics=trained.metrics)

    def _waited_for(self, targets: Collection[str]) -> Collection[str]:
        return set(targets) & set(self._participation.waited_for) or targets

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
        self,
        number: int,
        weights: Weights,
        *,
        metrics: Metrics,
        shares: Mapping[str, int],
        summed: Metrics,
        curves: Curves,
    ) -> None:
        """Record what the sites say of the model that round ``number`` ended with, and keep it if it is the best."""
        private = self._job.privacy is not None
        score = noised_score(summed or metrics) if private else global_metric(metrics, shares, _SCORE)
        false_positives = global_metric(metrics, shares, _FALSE_POSITIVES)
        self._choice = self._choice.after(number, score)
        best = self._choice.best
        if best is not None and best.round_number == number:
            self._best_weights = weights
            self._record = self._record.with_best(best, _digest(weights))
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


def _digest(weights: Weights) -> str:
    return hashlib.sha256(weights.tobytes()).hexdigest()


def _trained(answer: Shareable) -> TrainedRound | Failure:
    failure = exchange.failure_of(answer)
    if failure is not None:
        return Failure(failure)
    try:
        return exchange.unpack_trained(answer)
    except FedwardError as error:
        return Failure(error.code)


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
