"""A hospital's tasks: accept a job, train a round, validate, install a release, run inference.

Everything that happens inside a hospital is called here, without NVFLARE, so that a test can do what a job does. The
hospital decides by its own site file; what comes from outside is a signed document, weights and release bytes.
"""

from __future__ import annotations

import resource
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedward import acceptance
from fedward.errors import JobRefused, StoreError
from fedward.federation.consent import NO_MODELS, Consent, GivenModel, OwnModels
from fedward.federation.secure_job import sums_at_the_end
from fedward.federation.secure_messages import Box
from fedward.identity.certificates import read_certificate
from fedward.identity.document import JobDocument, SignedJob
from fedward.privacy.head import Head
from fedward.privacy.ledger import Ledger, Terms
from fedward.release.detector import find_detector, has_detector
from fedward.release.model_store import ensemble_with, find_installed, install_release, load_installed, may_run_unasked
from fedward.release.package import Release, ReleaseParts, Trust
from fedward.round_values import Evaluated as Evaluated
from fedward.round_values import RoundTask as RoundTask
from fedward.round_values import TrainedRound as TrainedRound
from fedward.settings.job import EvaluationJob, TrainingJob
from fedward.settings.site import SiteSettings, read_site_settings, require_identity
from fedward.site_counts import Counted
from fedward.site_own import own_norms
from fedward.site_sums import SummedAtSite, SummingHospital
from fedward.store.audit import Audit
from fedward.store.database import Database
from fedward.store.jobs import end_job
from fedward.store.releases import activate, active_release, release_before, roll_back

if TYPE_CHECKING:
    from fedward.inference.load import Chosen
    from fedward.site_evaluation import SiteEvaluation
    from fedward.site_training import SiteTraining

Weights = NDArray[np.float32]
ShouldStop = Callable[[], bool]

#: Counts that leave a site are rounded to the nearest multiple of this.
COUNT_STEP = 5

#: What inference counts, by name; see :func:`fedward.report.studies.report_studies`.
OUTCOMES = frozenset({"findings", "no_findings", "refused", "other_modality"})

#: What leaves the site after an inference job: rounded counts by outcome.
InferenceCounts = Mapping[str, int]


@dataclass(eq=False)
class Hospital(SummingHospital):
    """One hospital, opened from its site file."""

    site: SiteSettings
    site_file: Path
    database: Database
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    _jobs: dict[str, SiteTraining] = field(default_factory=dict)
    _evaluations: dict[str, SiteEvaluation] = field(default_factory=dict)
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, site_file: Path) -> Hospital:
        """Read the site file and open the site's database.

        Raises:
            SettingsError: the site file has faults.
            StoreError: ``unsafe_permissions``: others than its owner may read or write the site file.
        """
        site = read_site_settings(site_file)
        if stat.S_IMODE(site_file.stat().st_mode) & 0o077:
            raise StoreError(
                "unsafe_permissions", f"{site_file} may be read by others; make it yours alone: chmod 600 {site_file}"
            )
        # What is in a hospital's memory is never written to a disk by a crash.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return cls(site=site, site_file=site_file, database=Database.open(site.state, site.database))

    @property
    def audit(self) -> Audit:
        """What this hospital keeps of what came, left, was refused and was changed."""
        return Audit(self.database, self.site.state, self.clock)

    def trust(self) -> Trust:
        """Give what this hospital checks a release against."""
        identity = require_identity(self.site)
        root = read_certificate(identity.root_certificate)
        return Trust(root, identity.project, self.clock(), revoked=identity.revoked)

    def accept(self, signed: SignedJob) -> JobDocument:
        """Verify a job, hold it against the site's bounds, ask a person where the site file says so, and keep its id.

        Raises:
            IdentityError, JobRefused: see :func:`fedward.acceptance.accept`.
        """
        return acceptance.accept(signed, site=self.site, site_file=self.site_file, audit=self.audit, now=self.clock())

    def check_signer(self, signed: SignedJob) -> None:
        """Refuse to go on with a job whose signer, end date or approval no longer lets it in.

        Raises:
            IdentityError, JobRefused, SettingsError: see :func:`fedward.acceptance.check_still_accepted`.
        """
        acceptance.check_still_accepted(signed, site_file=self.site_file, database=self.database, now=self.clock())

    def ledger(self) -> Ledger:
        """Open the site's privacy ledger.

        Raises:
            StoreError: it cannot be trusted, or was begun under other terms than the site file's.
        """
        caps = self.site.privacy
        terms = Terms(epsilon=caps.epsilon, delta=caps.delta, order=caps.renyi_order)
        return Ledger.open(self.database, state=self.site.state, terms=terms, clock=self.clock)

    def train_round(self, task: RoundTask, *, should_stop: ShouldStop = lambda: False) -> TrainedRound:
        """Charge the round, validate the incoming model where the job says so, train on it, and give the update.

        A round that is asked again gives the update that was sealed, and trains nothing.

        Raises:
            JobRefused: too few patients here, or with too little privacy left; a round the job does not have; another
                model for a known round.
            UpdateRefused: training gave an update that must not leave.
            SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
        """
        training = self._training(task.document, task.number, last=0, should_stop=should_stop)
        answer = training.answer(task.start, seen=task.seen, should_stop=should_stop)
        if answer.update is None:
            raise JobRefused("wrong_round", f"round {task.number} of the job trains nothing")
        masked = training.masked(answer, task.start, task.boxes) if training.sum else None
        spent, head = training.plan.spent_after(task.number), training.ledger.head()
        return TrainedRound(masked or answer.update, answer.weight, training.in_clear(answer), spent, head)

    def evaluate(self, task: RoundTask, *, should_stop: ShouldStop = lambda: False) -> Evaluated:
        """Validate a job's last model and close the job here; what it reserved and did not use is free again.

        Raises:
            JobRefused, SourceError, StoreError, Stopped: as for :meth:`train_round`.
        """
        training = self._training(task.document, task.number, last=1, should_stop=should_stop)
        answer = training.answer(task.start, seen=task.seen, should_stop=should_stop)
        spent, head = training.plan.spent_after(task.number), training.ledger.head()
        if training.sum is None or not sums_at_the_end(training.job):
            self._close(training)
            return Evaluated(answer.weight, training.in_clear(answer), spent, training.ledger.head())
        masked = training.masked(answer, task.start, task.boxes)
        return Evaluated(answer.weight, training.in_clear(answer), spent, head, masked)

    def install(self, document: JobDocument, parts: ReleaseParts) -> None:
        """Verify the release of a publishing job and keep it as a candidate; activate it where the site file says so.

        Raises:
            ReleaseRefused: it is not what the job names, or must not be installed.
            JobRefused: ``model_changed``: the bytes are not those that the coordinator signed in the job.
        """
        if document.release != parts.hashes:
            raise JobRefused("model_changed", "the release is not the one that the job's document names")
        self.install_parts(parts)
        end_job(self.database, job_id=document.id, now=self.clock())

    def install_parts(self, parts: ReleaseParts) -> Release:
        """Verify a release and keep it as a candidate.

        It is activated where the site file says so, unless it judges lesions that nothing here finds yet, or a model
        runs and this hospital did not find it no worse at the gate.

        Raises:
            ReleaseRefused: it must not be installed; ``norms_missing``: it stays a candidate that cannot be activated.
        """
        from fedward.inference.load import weights_sha256

        release = install_release(
            parts,
            site=self.site.name,
            state=self.site.state,
            database=self.database,
            trust=self.trust(),
            weights_sha256=weights_sha256,
        )
        passport = release.passport
        self.audit.note(
            "release", done="installed", name=passport.name, number=passport.number, model=passport.model_sha256
        )
        self.own_norms(release)
        may_run = may_run_unasked(passport, site=self.site.name, database=self.database)
        if self.site.models.auto_activate and may_run and has_detector(release, self.site, self.database):
            activate(self.database, name=passport.name, number=passport.number, now=self.clock())
            self.audit.note("release", done="activated", name=passport.name, number=passport.number)
        return release

    def activate(self, reference: str) -> tuple[str, int]:
        """Make the installed release ``NAME-NUMBER`` the running model, after checking that it has not changed.

        Raises:
            ReleaseRefused: it is not installed here, has been altered, or ``no_lesion_source``: it judges
                lesions that nothing here finds; ``norms_missing``.
        """
        stored = find_installed(self.database, reference)
        release = load_installed(stored, state=self.site.state)
        find_detector(release, self.site, self.database)
        self.own_norms(release)
        activate(self.database, name=stored.name, number=stored.number, now=self.clock())
        self.audit.note("release", done="activated", name=stored.name, number=stored.number)
        return stored.name, stored.number

    def own_norms(self, release: Release) -> Weights | None:
        """Give the norms that this hospital runs a release with; None where the release has its own.

        Raises:
            ReleaseRefused: ``norms_missing``.
            StoreError: ``cannot_read``.
        """
        return own_norms(release.passport, site=self.site, database=self.database)

    def choose(self, release: Release, detector: Release | None) -> Chosen:
        """Put a release together with all that runs beside it here: its detector, an ensemble, this hospital's norms.

        Raises:
            ReleaseRefused: one has been altered; ``norms_missing``.
            StoreError: ``cannot_read``.
        """
        from fedward.inference.load import choose_at

        others = ensemble_with(release, self.site, self.database)
        norms = {}
        for one in (release, *([detector] if detector else []), *others):
            own = self.own_norms(one)
            if own is not None:
                norms[one.passport.model_sha256] = own
        return replace(choose_at(self.site, release, detector), others=others, norms=norms)

    def choose_installed(self, reference: str) -> Chosen:
        """Put the installed release ``NAME-NUMBER`` together with all that runs beside it here.

        Raises:
            ReleaseRefused: ``not_installed``, ``no_lesion_source``; and as :meth:`choose`.
        """
        release = load_installed(find_installed(self.database, reference), state=self.site.state)
        return self.choose(release, find_detector(release, self.site, self.database))

    def roll_back(self) -> tuple[str, int]:
        """Go back to the model that ran before the running one, after checking it; give its name and number.

        Raises:
            ReleaseRefused: nothing ran before, or that model has been altered.
        """
        load_installed(release_before(self.database), state=self.site.state)
        name, number = roll_back(self.database, now=self.clock())
        self.audit.note("release", done="rolled_back", name=name, number=number)
        return name, number

    def evaluate_release(
        self,
        document: JobDocument,
        *,
        seen: Head | None = None,
        boxes: Sequence[Box] = (),
        brought: OwnModels = NO_MODELS,
        should_stop: ShouldStop = lambda: False,
    ) -> Counted:
        """Evaluate the installed release that a job names on the held-out patients; give the noised counts.

        The hospital's own page with everything exact is written below its state folder. Where the job asks for the
        hospitals' own models, ``brought`` holds them.

        Raises:
            ReleaseRefused: ``not_installed``, or it has been altered.
            JobRefused: ``model_changed``, ``other_task``, ``too_few_patients``, ``privacy_spent``; as ``give_model``.
            SourceError, StoreError, SumRefused, UpdateRefused, IdentityError, Stopped: see :mod:`fedward.errors`.
        """
        evaluation = self._evaluation(document)
        counted = evaluation.answer(seen=seen, boxes=boxes, brought=brought, should_stop=should_stop)
        release, number = evaluation.job.release, evaluation.job.number
        self.audit.note("evaluation", job=document.id, name=release, number=number)
        if evaluation.counts.sum is None:
            self._close(evaluation.counts)
        return counted

    def agree_to_give(self, document: JobDocument) -> Consent:
        """Sign that this hospital's own model may go to all hospitals of an evaluation.

        Raises:
            JobRefused: ``local_models_not_allowed``: site file or job say no.
            ReleaseRefused, UpdateRefused, IdentityError, StoreError: see :mod:`fedward.errors`.
        """
        return self._evaluation(document).models.agree()

    def give_model(
        self,
        document: JobDocument,
        consents: Sequence[Consent],
        *,
        seen: Head | None = None,
        should_stop: ShouldStop = lambda: False,
    ) -> GivenModel | None:
        """Charge and give this hospital's own model, None where it has none, once every hospital has agreed.

        Raises:
            JobRefused: ``local_models_not_allowed``, ``not_all_agreed``, ``model_changed``, ``too_few_patients``,
                ``unknown_patients``.
            ReleaseRefused, UpdateRefused, IdentityError, SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
        """
        return self._evaluation(document).give_model(consents, seen=seen, should_stop=should_stop)

    def infer(self, document: JobDocument, *, should_stop: ShouldStop = lambda: False) -> InferenceCounts:
        """Run the active model over the site's own studies and write the reports; give rounded counts by outcome.

        Raises:
            ReleaseRefused: no model is active, or it has been altered; ``no_lesion_source``.
            SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
        """
        from fedward.report.studies import Run, report_site

        stored = active_release(self.database)
        release = load_installed(stored, state=self.site.state)
        out = self.site.state / "reports" / f"{stored.name}-{stored.number}"
        chosen = self.choose(release, find_detector(release, self.site, self.database))
        run = Run(chosen=chosen, out=out, site=self.site.name, now=self.clock(), asked=self.site.inference)
        counts = report_site(run, self.site, should_stop=should_stop)
        end_job(self.database, job_id=document.id, now=self.clock())
        self.audit.note("inference", job=document.id, name=stored.name, number=stored.number, **counts)
        return {outcome: round(count / COUNT_STEP) * COUNT_STEP for outcome, count in counts.items()}

    def _training(
        self, document: JobDocument, number: int, *, last: int, should_stop: ShouldStop = lambda: False
    ) -> SiteTraining:
        """Give a training job, opened once in this process.

        Args:
            document: The accepted job.
            number: The round that is asked for.
            last: How many rounds beyond the job's own may be.
            should_stop: Asked while the job is opened.
        """
        from fedward.site_training import SiteTraining

        job = document.job
        if not isinstance(job, TrainingJob):
            raise JobRefused("kind_not_allowed", f"the job is of kind {job.kind}, the task belongs to training")
        rounds = job.training.rounds
        if not 1 <= number <= rounds + last:
            raise JobRefused("wrong_round", f"the job has rounds 1 to {rounds}, the server asks {number}")
        with self._opening:
            if document.id not in self._jobs:
                self._jobs[document.id] = SiteTraining.open(
                    self.site,
                    self.site_file,
                    self.database,
                    document,
                    job,
                    self.ledger(),
                    clock=self.clock,
                    should_stop=should_stop,
                )
            return self._jobs[document.id]

    def _evaluation(self, document: JobDocument) -> SiteEvaluation:
        """Give an evaluation, opened once in this process."""
        from fedward.site_evaluation import SiteEvaluation

        job = document.job
        if not isinstance(job, EvaluationJob):
            raise JobRefused("kind_not_allowed", f"the job is of kind {job.kind}, the task belongs to an evaluation")
        with self._opening:
            if document.id not in self._evaluations:
                self._evaluations[document.id] = SiteEvaluation.open(
                    self.site, self.site_file, self.database, document, job, self.ledger(), clock=self.clock
                )
            return self._evaluations[document.id]

    def _summed(self, document: JobDocument, number: int, *, should_stop: ShouldStop = lambda: False) -> SummedAtSite:
        if isinstance(document.job, EvaluationJob):
            return self._evaluation(document).counts
        return self._training(document, number, last=1, should_stop=should_stop)

    def _close(self, summed: SummedAtSite) -> None:
        summed.close()
        end_job(self.database, job_id=summed.document.id, now=self.clock())
        self._jobs.pop(summed.document.id, None)
        self._evaluations.pop(summed.document.id, None)
