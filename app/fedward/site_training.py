"""One training job at one hospital: reserved in the privacy ledger, then an answer a round."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.errors import JobRefused, UpdateRefused
from fedward.evaluation.cases import score_cases
from fedward.evaluation.summary import summarise, values_by_patient
from fedward.evaluation.tensorboard import Curves
from fedward.federation.algorithms import RoundStart
from fedward.federation.checks import check_update, public_weight
from fedward.federation.ckks import Encrypted
from fedward.federation.secure_job import quantiser_of, summed_metrics
from fedward.federation.secure_messages import Box, Masked
from fedward.identity.document import JobDocument
from fedward.imaging.cases import SiteData
from fedward.models.networks import build
from fedward.models.runtime import Runtime, choose_runtime
from fedward.models.weights import layout_of
from fedward.privacy.head import Head
from fedward.privacy.ledger import JobId, Ledger
from fedward.privacy.metrics import noised_totals
from fedward.privacy.plan import TRAIN, Plan
from fedward.privacy.sealed import Answer, answer_once
from fedward.randomness import Secret
from fedward.release.model_store import witness_start
from fedward.settings.algorithms import FedBN, Scaffold
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings
from fedward.site_ckks import SiteCkks
from fedward.site_own import OwnNumbers, norms_folder
from fedward.site_ranges import training_ranges
from fedward.site_sum import SiteSum
from fedward.site_sums import SummedAtSite
from fedward.store.database import Database
from fedward.store.jobs import witness
from fedward.store.vault import Vault
from fedward.training.local import train
from fedward.training.optimiser import OptimiserState
from fedward.training.own import end_of, personal, start_of
from fedward.training.private import train_private

Weights = NDArray[np.float32]
ShouldStop = Callable[[], bool]

#: Rounds whose optimiser state is kept: the last one may be asked for again after a restart.
_KEPT_STATES = 2


@dataclass(frozen=True, eq=False)
class SiteTraining(SummedAtSite):
    """A training job that this hospital takes part in.

    Attributes:
        site: The hospital's own settings.
        database: The hospital's.
        document: The accepted job.
        job: What it says.
        clock: Gives the time.
        data: The cases of the patients who take part.
        runtime: How the network runs here.
        ledger: The hospital's privacy ledger.
        plan: What the job does to the patients here.
        weight: The public weight.
        layout_size: How many numbers the network has.
        start_sha256: Of the flat weights that the job's first round must bring; None where they are drawn.
        sum: The site's part in the job's encrypted sum; None in plain mode.
    """

    site: SiteSettings
    database: Database
    document: JobDocument
    job: TrainingJob
    clock: Callable[[], datetime]
    data: SiteData
    runtime: Runtime
    ledger: Ledger
    plan: Plan
    weight: int
    layout_size: int
    start_sha256: str | None
    sum: SiteSum | SiteCkks | None

    @classmethod
    def open(
        cls,
        site: SiteSettings,
        site_file: Path,
        database: Database,
        document: JobDocument,
        job: TrainingJob,
        ledger: Ledger,
        *,
        clock: Callable[[], datetime],
        should_stop: ShouldStop,
    ) -> SiteTraining:
        """Prepare the site's cases and reserve the job's plan; leave out the patients who cannot afford it.

        Raises:
            JobRefused: ``too_few_patients``, ``privacy_spent`` or ``delta_too_large``; ``start_not_installed`` or
                ``wrong_start``.
            SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
        """
        layout = layout_of(build(job.network, task=job.task))
        start_sha256 = witness_start(
            document, layout_digest=layout.digest, state=site.state, database=database, now=clock()
        )
        data = SiteData.open(site, job, parts=("train", "validation"), should_stop=should_stop)
        plan = Plan(job, site.privacy)
        groups = {case.patient_key: case.part for case in data.cases}
        plan.check_delta(len(groups))
        names = {key: ledger.pseudonym(key) for key in groups}
        admitted = ledger.reserve(
            JobId(document.id, job.name, document.digest, document.expires),
            patients={names[key]: group for key, group in groups.items()},
            plan=plan.whole(),
            smallest_cohort={TRAIN: site.bounds.min_patients},
            after_unprotected=site.privacy.allow_non_private,
        )
        taken = data.only({key for key, name in names.items() if name in admitted})
        measured = len({case.patient_key for case in taken.validation})
        plan = plan.with_validation_of(measured, smallest_cohort=site.bounds.min_patients)
        folder = site.state / "jobs" / document.id
        secure: SiteSum | SiteCkks | None = None
        if job.exchange.mode != "plain":
            quantiser = quantiser_of(job, size=layout.size, sites=len(document.sites))
            kind = SiteSum if job.exchange.mode == "secure-sum" else SiteCkks
            secure = kind(site_file, document, job, quantiser, folder, clock)
        return cls(
            site=site,
            database=database,
            document=document,
            job=job,
            clock=clock,
            data=taken,
            runtime=choose_runtime(
                site.compute,
                network=job.network,
                task=job.task,
                patch_size=job.training.patch_size,
                batch_size=plan.crops_at_a_time,
            ),
            ledger=ledger,
            plan=plan,
            weight=public_weight(taken.patients, cap=job.exchange.weight_cap),
            layout_size=layout.size,
            start_sha256=start_sha256,
            sum=secure,
        )

    def answer(self, start: RoundStart, *, seen: Head | None, should_stop: ShouldStop) -> Answer:
        """Give the one answer that a round's charge buys.

        Args:
            start: The round, its model and control; one more than the job's rounds for the closing validation, which
                trains nothing.
            seen: The latest head of this site's ledger that the server knows of.
            should_stop: Asked between steps.

        Raises:
            JobRefused, UpdateRefused, SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
        """
        if seen is not None:
            self.ledger.check_seen(seen)
        number, digest = start.number, start.weights_sha256
        if number == 1 and self.start_sha256 not in (None, digest):
            raise JobRefused("wrong_start", "the server began with another model than the release that the job names")
        witness(self.database, job_id=self.document.id, number=number, weights_sha256=digest, now=self.clock())

        def make() -> Answer:
            measured = self._measure(number, start.weights, should_stop)
            metrics = {**measured, **training_ranges(self.data, self.plan, number)}
            update = self._train(start, should_stop) if number <= self.job.training.rounds else None
            return Answer(update, self.weight, metrics)

        answer = answer_once(
            self.ledger,
            self._folder,
            vault=self._vault,
            job_id=self.document.id,
            number=number,
            model_sha256=start.sha256,
            spend=self.plan.round(number),
            make=make,
        )
        self._forget_states_before(start)
        return answer

    def masked(self, answer: Answer, start: RoundStart, boxes: Sequence[Box]) -> Masked | Encrypted:
        """Give a round's answer as the vector that enters the encrypted sum.

        Raises:
            SumRefused, IdentityError, UpdateRefused: see :meth:`SiteSum.masked` and :meth:`SiteCkks.masked`.
        """
        return self.any_sum().masked(start.number, answer, model_sha256=start.sha256, boxes=boxes)

    def in_clear(self, answer: Answer) -> Mapping[str, float]:
        """Give the numbers of an answer that leave beside the update; an encrypted sum holds the summed ones inside."""
        inside = summed_metrics(self.job) if self.sum is not None else ()
        return {name: value for name, value in answer.metrics.items() if name not in inside}

    def close(self) -> None:
        """End the job here: free what it did not use, and remove what was kept for its next round."""
        self.ledger.close(self.document.id)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _train(self, start: RoundStart, should_stop: ShouldStop) -> Weights:
        number, state = start.number, self._optimiser_state(start.number)
        of_server, own = self._control_of(start), self._own_before(start)
        begin = start_of(self.job, start.weights, own, of_server)
        if self.job.privacy:
            result = train_private(
                begin.weights,
                self.data,
                self.job,
                round_number=number,
                runtime=self.runtime,
                noise_multiplier=self.plan.noise_multiplier,
                secret=Secret(),
                optimiser_state=state,
                correction=begin.correction,
                should_stop=should_stop,
            )
        else:
            result = train(
                begin.weights,
                self.data,
                self.job,
                round_number=number,
                runtime=self.runtime,
                optimiser_state=state,
                correction=begin.correction,
                should_stop=should_stop,
            )
        update, own = end_of(self.job, begin, result.update, number=number, own=own, of_server=of_server)
        check_update(update, size=self.layout_size, max_norm=self.job.exchange.max_update_norm)
        if own is not None:
            self._own.keep(number, own)
        result.optimiser_state.save(self._optimiser_file(number), self._vault)
        points = {"training/loss": result.loss, "training/seconds": result.seconds}
        spent = self.plan.spent_after(number)
        with Curves(self._curves_folder) as curves:
            curves.add(number, {**points, "privacy/epsilon": spent.epsilon} if spent else points)
        return update

    def _measure(self, number: int, weights: Weights, should_stop: ShouldStop) -> Mapping[str, float]:
        """Validate the model that comes in; the exact numbers stay here but for those that the site file shares."""
        if not self.plan.measures(number):
            return {}
        weights = personal(self.job, weights, self._own.latest_before(number) if self._keeps_norms else None)
        cases = score_cases(weights, self.data.validation, self.job, runtime=self.runtime, should_stop=should_stop)
        exact = summarise(cases).as_metrics()
        with Curves(self._curves_folder) as curves:
            curves.add(number - 1, {name.replace("_", "/", 1): value for name, value in exact.items()})
        if self.job.privacy is None:
            return {name: value for name, value in exact.items() if name in self.site.privacy.share_metrics}
        noise = self.plan.metric_noise_multiplier
        return noised_totals(values_by_patient(cases), noise_multiplier=noise, secret=Secret())

    def _optimiser_state(self, number: int) -> OptimiserState | None:
        return OptimiserState.load(self._optimiser_file(number - 1), self._vault)

    def _forget_states_before(self, start: RoundStart) -> None:
        for old in range(1, start.number - _KEPT_STATES + 1):
            self._optimiser_file(old).unlink(missing_ok=True)
        if start.control is not None:
            self._own.forget_before(start.control.counted.get(self.site.name, 0))

    def _control_of(self, start: RoundStart) -> Weights | None:
        """Give the server's control.

        Raises:
            UpdateRefused: ``malformed_message``: the job needs one, and there is none of the network's size.
        """
        if not isinstance(self.job.algorithm, Scaffold):
            return None
        numbers = start.control.numbers if start.control else np.empty(0, np.float32)
        if numbers.shape != (self.layout_size,) or not np.isfinite(numbers).all():
            raise UpdateRefused("malformed_message", f"expected a control of {self.layout_size}, got {numbers.shape}")
        return numbers

    def _own_before(self, start: RoundStart) -> Weights | None:
        """Give the site's own numbers before a round: SCAFFOLD's after the last round that counted, FedBN's latest."""
        if self._keeps_norms:
            return self._own.latest_before(start.number)
        counted = start.control.counted.get(self.site.name) if start.control else None
        return None if counted is None else self._own.after(counted)

    @property
    def _keeps_norms(self) -> bool:
        return isinstance(self.job.algorithm, FedBN)

    @property
    def _own(self) -> OwnNumbers:
        folder = norms_folder(self.site.state, self.document.id) if self._keeps_norms else self._folder
        return OwnNumbers(folder, self._vault)

    def _optimiser_file(self, number: int) -> Path:
        return self._folder / f"optimiser-{number}.state"

    @cached_property
    def _vault(self) -> Vault:
        return Vault.open(self.site.sealing_key)

    @property
    def _folder(self) -> Path:
        return self.site.state / "jobs" / self.document.id

    @property
    def _curves_folder(self) -> Path:
        return self.site.state / "tensorboard" / f"{self.job.name}-{self.document.id[:8]}"
