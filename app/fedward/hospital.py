"""A hospital's tasks: accept a job, train a round, validate, install a release, run inference.

Everything that happens inside a hospital is called here, without NVFLARE, so that a test can do what a job does. The
hospital decides by its own site file; what comes from outside is a signed document, weights and release bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedward.errors import JobRefused, StoreError
from fedward.federation.checks import check_update, public_weight
from fedward.identity.certificates import read_certificate
from fedward.identity.document import JobDocument, SignedJob, check_signer, verify_job
from fedward.release.model_store import find_installed, install_release, load_installed
from fedward.release.package import Release, ReleaseParts, Trust
from fedward.settings.admission import admit
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings, read_site_settings, require_identity
from fedward.store.database import Database
from fedward.store.jobs import end_job, remember_job, witness
from fedward.store.releases import activate, active_release, release_before, roll_back

if TYPE_CHECKING:
    from fedward.imaging.cases import SiteData
    from fedward.models.runtime import Runtime
    from fedward.training.optimiser import OptimiserState

Weights = NDArray[np.float32]
ShouldStop = Callable[[], bool]

#: Counts that leave a site are rounded to the nearest multiple of this.
COUNT_STEP = 5

#: Rounds whose optimiser state is kept: the last one may be asked for again after a restart.
_KEPT_STATES = 2


@dataclass(frozen=True, eq=False)
class RoundTask:
    """What a training job asks in one round.

    Attributes:
        document: The accepted job.
        number: From 1; one more than the job's rounds for the closing validation.
        weights: The global model, flat float32.
        evaluate: Whether to validate it.
    """

    document: JobDocument
    number: int
    weights: Weights
    evaluate: bool


@dataclass(frozen=True, eq=False)
class TrainedRound:
    """What leaves the site after a round: the update, the public weight, and the metrics that the site file shares."""

    update: Weights
    weight: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Evaluated:
    """What leaves the site after a validation."""

    weight: int
    metrics: Mapping[str, float]


#: What leaves the site after an inference job: rounded counts by outcome.
InferenceCounts = Mapping[str, int]


@dataclass(eq=False)
class _OpenJob:
    """A training job in this process: its cases and how its network runs, opened once."""

    data: SiteData
    runtime: Runtime
    weight: int
    layout_size: int


@dataclass(eq=False)
class Hospital:
    """One hospital, opened from its site file."""

    site: SiteSettings
    site_file: Path
    database: Database
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    _jobs: dict[str, _OpenJob] = field(default_factory=dict)

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
        return cls(site=site, site_file=site_file, database=Database.open(site.state))

    def trust(self) -> Trust:
        """Give what this hospital checks a release against."""
        identity = require_identity(self.site)
        root = read_certificate(identity.root_certificate)
        return Trust(root, identity.project, self.clock(), revoked=identity.revoked)

    def accept(self, signed: SignedJob) -> JobDocument:
        """Verify a job, hold it against the site's bounds, and keep its id.

        Raises:
            IdentityError: who signed it cannot be trusted.
            JobRefused: the site's rules say no.
        """
        now = self.clock()
        document = verify_job(signed, require_identity(self.site), now=now)
        admit(document.job, sites=document.sites, site=self.site)
        remember_job(
            self.database,
            job_id=document.id,
            kind=document.job.kind,
            name=document.job.name,
            digest=document.digest,
            now=now,
        )
        return document

    def check_signer(self, signed: SignedJob) -> None:
        """Refuse to go on with a job whose signer the site file, as it stands now, revokes or lists no more.

        Raises:
            IdentityError: ``revoked_signer`` or ``unlisted_signer``.
            SettingsError: the site file has faults.
        """
        check_signer(signed, require_identity(read_site_settings(self.site_file)))

    def train_round(self, task: RoundTask, *, should_stop: ShouldStop = lambda: False) -> TrainedRound:
        """Validate the incoming model if asked, train on it, and give the update.

        Raises:
            JobRefused: too few patients here, a round the job does not have, or another model for a known round.
            UpdateRefused: training gave an update that must not leave.
            SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
        """
        from fedward.evaluation.tensorboard import Curves
        from fedward.training.local import train

        job = _training_job(task, last=0)
        opened = self._open_job(task.document, job, should_stop)
        self._witness(task)
        metrics = self._validate(task, job, opened, should_stop) if task.evaluate else {}
        state_file = self._job_folder(task.document) / f"optimiser-{task.number}.npz"
        result = train(
            task.weights,
            opened.data,
            job,
            round_number=task.number,
            runtime=opened.runtime,
            optimiser_state=self._optimiser_state(task),
            should_stop=should_stop,
        )
        check_update(result.update, size=opened.layout_size, max_norm=job.exchange.max_update_norm)
        result.optimiser_state.save(state_file)
        self._forget_states_before(task)
        with Curves(self._curves_folder(task.document)) as curves:
            curves.add(task.number, {"training/loss": result.loss, "training/seconds": result.seconds})
        return TrainedRound(result.update, opened.weight, self._shared(metrics))

    def evaluate(self, task: RoundTask, *, should_stop: ShouldStop = lambda: False) -> Evaluated:
        """Validate a job's last model and close the job here.

        Raises:
            JobRefused, SourceError, StoreError, Stopped: as for :meth:`train_round`.
        """
        job = _training_job(task, last=1)
        opened = self._open_job(task.document, job, should_stop)
        self._witness(task)
        metrics = self._validate(task, job, opened, should_stop)
        shutil.rmtree(self._job_folder(task.document), ignore_errors=True)
        end_job(self.database, job_id=task.document.id, now=self.clock())
        self._jobs.pop(task.document.id, None)
        return Evaluated(opened.weight, self._shared(metrics))

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
        """Verify a release and keep it as a candidate; activate it where the site file says so.

        Raises:
            ReleaseRefused: it must not be installed.
        """
        from fedward.inference.load import weights_sha256

        release = install_release(
            parts, state=self.site.state, database=self.database, trust=self.trust(), weights_sha256=weights_sha256
        )
        if self.site.models.auto_activate:
            passport = release.passport
            activate(self.database, name=passport.name, number=passport.number, now=self.clock())
        return release

    def activate(self, reference: str) -> tuple[str, int]:
        """Make the installed release ``NAME-NUMBER`` the running model, after checking that it has not changed.

        Raises:
            ReleaseRefused: it is not installed here, or has been altered.
        """
        stored = find_installed(self.database, reference)
        load_installed(stored, state=self.site.state)
        activate(self.database, name=stored.name, number=stored.number, now=self.clock())
        return stored.name, stored.number

    def roll_back(self) -> tuple[str, int]:
        """Go back to the model that ran before the running one, after checking it; give its name and number.

        Raises:
            ReleaseRefused: nothing ran before, or that model has been altered.
        """
        load_installed(release_before(self.database), state=self.site.state)
        return roll_back(self.database, now=self.clock())

    def infer(self, document: JobDocument, *, should_stop: ShouldStop = lambda: False) -> InferenceCounts:
        """Run the active model over the site's own studies and write the reports; give rounded counts by outcome.

        Raises:
            ReleaseRefused: no model is active, or it has been altered.
            SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
        """
        from fedward.report.studies import Run, report_site

        stored = active_release(self.database)
        release = load_installed(stored, state=self.site.state)
        out = self.site.state / "reports" / f"{stored.name}-{stored.number}"
        run = Run(release=release, out=out, site=self.site.name, now=self.clock())
        counts = report_site(run, self.site, should_stop=should_stop)
        end_job(self.database, job_id=document.id, now=self.clock())
        return {outcome: round(count / COUNT_STEP) * COUNT_STEP for outcome, count in counts.items()}

    def _open_job(self, document: JobDocument, job: TrainingJob, should_stop: ShouldStop) -> _OpenJob:
        from fedward.imaging.cases import SiteData
        from fedward.models.networks import build
        from fedward.models.runtime import choose_runtime
        from fedward.models.weights import layout_of

        if document.id not in self._jobs:
            data = SiteData.open(self.site, job, parts=("train", "validation"), should_stop=should_stop)
            if data.patients < self.site.bounds.min_patients:
                raise JobRefused(
                    "too_few_patients",
                    f"[bounds] min_patients is {self.site.bounds.min_patients}, "
                    f"{data.patients} have a usable labelled series",
                )
            self._jobs[document.id] = _OpenJob(
                data=data,
                runtime=choose_runtime(
                    self.site.compute,
                    network=job.network,
                    task=job.task,
                    patch_size=job.training.patch_size,
                    batch_size=job.training.batch_size,
                ),
                weight=public_weight(data.patients, cap=job.exchange.weight_cap),
                layout_size=layout_of(build(job.network, task=job.task)).size,
            )
        return self._jobs[document.id]

    def _witness(self, task: RoundTask) -> None:
        digest = hashlib.sha256(task.weights.tobytes()).hexdigest()
        witness(self.database, job_id=task.document.id, number=task.number, weights_sha256=digest, now=self.clock())

    def _validate(
        self, task: RoundTask, job: TrainingJob, opened: _OpenJob, should_stop: ShouldStop
    ) -> Mapping[str, float]:
        from fedward.evaluation.cases import score_cases
        from fedward.evaluation.summary import summarise
        from fedward.evaluation.tensorboard import Curves

        cases = score_cases(task.weights, opened.data.validation, job, runtime=opened.runtime, should_stop=should_stop)
        metrics = summarise(cases).as_metrics()
        with Curves(self._curves_folder(task.document)) as curves:
            curves.add(task.number - 1, {name.replace("_", "/", 1): value for name, value in metrics.items()})
        return metrics

    def _shared(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Keep what the site file lets the coordinator see."""
        return {name: value for name, value in metrics.items() if name in self.site.privacy.share_metrics}

    def _optimiser_state(self, task: RoundTask) -> OptimiserState | None:
        from fedward.training.optimiser import OptimiserState

        path = self._job_folder(task.document) / f"optimiser-{task.number - 1}.npz"
        return OptimiserState.load(path)

    def _forget_states_before(self, task: RoundTask) -> None:
        for number in range(1, task.number - _KEPT_STATES + 1):
            (self._job_folder(task.document) / f"optimiser-{number}.npz").unlink(missing_ok=True)

    def _job_folder(self, document: JobDocument) -> Path:
        return self.site.state / "jobs" / document.id

    def _curves_folder(self, document: JobDocument) -> Path:
        return self.site.state / "tensorboard" / f"{document.job.name}-{document.id[:8]}"


def _training_job(task: RoundTask, *, last: int) -> TrainingJob:
    job = task.document.job
    if not isinstance(job, TrainingJob):
        raise JobRefused("kind_not_allowed", f"the job is of kind {job.kind}, the task belongs to training")
    if not 1 <= task.number <= job.training.rounds + last:
        raise JobRefused("wrong_round", f"the job has rounds 1 to {job.training.rounds}, the server asks {task.number}")
    return job
