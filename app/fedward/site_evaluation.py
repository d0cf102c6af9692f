"""One evaluation at one hospital: an installed release on the held-out patients, its own page, and the counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.facts import GroupFacts, group_facts
from fedward.dicom.source import open_source
from fedward.errors import JobRefused, ReleaseRefused
from fedward.evaluation.kept_alone import OwnModel
from fedward.evaluation.local_only import runtime_of
from fedward.evaluation.measure import ScanFacts, is_hollow, measure_cases
from fedward.evaluation.outcome import LOCAL, RELEASE, model_of
from fedward.evaluation.shares import counts_of
from fedward.evaluation.sheet import Sheet, kind_of, sheet_of
from fedward.evaluation_page.site_page import SiteDocument, site_document, write_site_page
from fedward.federation.consent import Consent, GivenModel, OwnModels
from fedward.federation.secure_messages import Box
from fedward.identity.document import JobDocument
from fedward.imaging.cases import SiteData
from fedward.inference.load import running_weights
from fedward.privacy.head import Head
from fedward.privacy.ledger import Ledger
from fedward.release.model_store import find_installed, load_installed
from fedward.release.package import Release
from fedward.release.passport import Passport
from fedward.settings.job import EvaluationJob, Exchange, Training, TrainingJob
from fedward.settings.site import SiteSettings
from fedward.site_counts import TEST, TRAIN, Counted, Counts, SiteCounts
from fedward.site_models import SiteModels
from fedward.site_own import own_norms
from fedward.store.database import Database

Weights = NDArray[np.float32]
ShouldStop = Callable[[], bool]

#: Below the site's state folder: the hospital's own pages.
PAGES = "evaluations"

#: The name under which a site file shares its row.
SHARED = "evaluation"

#: Patches at a time.
_BATCH_SIZE = 8


@dataclass(frozen=True, eq=False)
class SiteEvaluation:
    """An evaluation that this hospital takes part in.

    Attributes:
        site: The hospital's own settings.
        document: The accepted job.
        job: What it says.
        release: The installed release that it names, checked.
        counts: What leaves.
        models: The hospitals' own models, where the job tries them on everybody's patients.
        clock: Gives the time.
        norms: The hospital's own, for a release that leaves them to the hospitals.
    """

    site: SiteSettings
    document: JobDocument
    job: EvaluationJob
    release: Release
    counts: SiteCounts
    models: SiteModels
    clock: Callable[[], datetime]
    norms: NDArray[np.float32] | None = None

    @classmethod
    def open(
        cls,
        site: SiteSettings,
        site_file: Path,
        database: Database,
        document: JobDocument,
        job: EvaluationJob,
        ledger: Ledger,
        *,
        clock: Callable[[], datetime],
    ) -> SiteEvaluation:
        """Find the release; nothing is read of the patients yet.

        Raises:
            ReleaseRefused: ``not_installed``, ``norms_missing``, or it has been altered.
            JobRefused: ``model_changed``: another model is installed here under that name and number;
                ``other_task``: the release does something else than the job says.
        """
        stored = find_installed(database, f"{job.release}-{job.number}")
        release = load_installed(stored, state=site.state)
        if document.release is None or document.release.model != stored.model_sha256:
            raise JobRefused("model_changed", f"{job.release}-{job.number} here is not the model that the job names")
        if kind_of(release.passport.task) != job.task:
            raise JobRefused(
                "other_task", f"the release does {kind_of(release.passport.task)}, the job says {job.task}"
            )
        sheet = sheet_of(job.task)
        shares = SHARED in site.privacy.share_metrics and site.privacy.allow_non_private
        counts = SiteCounts.open(
            site,
            site_file,
            document,
            job,
            ledger,
            model_sha256=stored.model_sha256,
            size=sheet.size,
            bound=sheet.bound,
            unprotected=(TEST, TRAIN) if shares else (TRAIN,),
            clock=clock,
        )
        norms = own_norms(release.passport, site=site, database=database)
        models = SiteModels(site, site_file, document, job, release.passport, clock)
        return cls(site, document, job, release, counts, models, clock, norms)

    def give_model(
        self, consents: Sequence[Consent], *, seen: Head | None, should_stop: ShouldStop
    ) -> GivenModel | None:
        """Give the hospital's own model, None where it has none, once every hospital of the job has said yes.

        The patients whom it was trained on are charged before: nothing protects them.

        Raises:
            JobRefused: ``unknown_patients``, ``too_few_patients``; ``model_changed``: the job was reserved for another.
            JobRefused, UpdateRefused, IdentityError: see :class:`SiteModels`.
            SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
        """
        if seen is not None:
            self.counts.ledger.check_seen(seen)
        own = self.models.own()
        self.models.agreed(consents, own)
        if own is None:
            return None
        trained = own.known_patients()
        data, _ = self._open_data(should_stop)
        if not trained <= self.counts.reserve(_patients(data), trained=trained).trained:
            raise JobRefused("model_changed", "the job was reserved for an own model of other patients")
        return GivenModel(self.counts.seal_model(own.weights), self.counts.ledger.head())

    def answer(
        self, *, seen: Head | None, boxes: Sequence[Box], brought: OwnModels, should_stop: ShouldStop
    ) -> Counted:
        """Count, write the hospital's own page, and give what leaves.

        Raises:
            JobRefused, ReleaseRefused, SourceError, StoreError, SumRefused, Stopped: see :mod:`fedward.errors`.
            UpdateRefused, IdentityError: the other hospitals' models are not what they say.
        """
        local = self.models.own()
        others = self.models.others(brought, local)
        trained = self._at_stake(local)
        data, facts = self._open_data(should_stop)
        reserved = self.counts.reserve(_patients(data), trained=trained)
        is_shared = self.counts.is_shared
        tells_of_local = is_shared and trained is not None and trained <= reserved.trained
        cases = data.only(reserved.counted).test

        def count() -> Mapping[str, Counts]:
            job = training_job_of(self.release.passport)
            runtime = runtime_of(job, self.site.compute)
            models: dict[str, Weights] = {RELEASE: running_weights(self.release, self.norms)}
            if local is not None:
                models[LOCAL] = local.weights
            models |= {model_of(name): weights for name, weights in others.items()}
            scans = {
                name: measure_cases(
                    weights, cases, job, groups=facts.__getitem__, runtime=runtime, should_stop=should_stop
                )
                for name, weights in models.items()
            }
            # A model of absurd weights stops nothing here, another hospital's or this one's own.
            hollow = {name for name, of_model in scans.items() if name != RELEASE and is_hollow(of_model)}
            scans = {name: of_model for name, of_model in scans.items() if name not in hollow}
            counted = {name: self._counted(of_model) for name, of_model in scans.items()}
            write_site_page(self._page_folder, self._document(scans, counted))
            rows = {**counted, **dict.fromkeys(hollow, np.zeros(self._sheet.size))} if is_shared else {}
            if not tells_of_local:
                rows.pop(LOCAL, None)
            return {"counted": counted[RELEASE], **rows}

        groups = (TEST, TRAIN) if is_shared and reserved.trained else (TEST,)
        answer = self.counts.answer(count, groups=groups, seen=seen)
        return self.counts.leaving(answer, boxes)

    def _counted(self, scans: Sequence[ScanFacts]) -> Counts:
        return counts_of(scans, self._sheet, task=self.job.task, smallest_cohort=self.site.bounds.min_patients)

    def _at_stake(self, own: OwnModel | None) -> frozenset[str] | None:
        """Give whom the own model was trained on where it leaves, or exact counts of it; None where nothing is told.

        A job that asks for no own models goes on without the row of one that few have trained, or nobody knows who.

        Raises:
            JobRefused: ``unknown_patients``.
        """
        if own is None:
            return None
        if self.job.local_models:
            return own.known_patients()
        is_told = self.counts.is_shared and len(own.patients or ()) >= self.site.bounds.min_patients
        return own.patients if is_told else None

    def _document(self, scans: Mapping[str, Sequence[ScanFacts]], counted: Mapping[str, Counts]) -> SiteDocument:
        passport = self.release.passport
        return site_document(
            scans,
            counted,
            job=self.job,
            job_id=self.document.id,
            site=self.site.name,
            model_sha256=passport.model_sha256,
            spent=self.counts.spent,
            noise_multiplier=self.counts.noised.noise_multiplier,
            smallest_cohort=self.site.bounds.min_patients,
            is_shared=self.counts.is_shared,
            is_local_gone=self.counts.has_given_model,
            created=self.clock(),
        )

    def _open_data(self, should_stop: ShouldStop) -> tuple[SiteData, Mapping[str, GroupFacts]]:
        """Prepare the held-out cases, and read their subgroups."""
        studies = [study for source in self.site.data for study in open_source(source).studies()]
        job = training_job_of(self.release.passport)
        data = SiteData.prepare(studies, self.site, job, parts=["test"], should_stop=should_stop)
        held_out = {case.series_instance_uid for case in data.test}
        facts = {one.series_instance_uid: group_facts(one) for one in studies if one.series_instance_uid in held_out}
        return data, facts

    @property
    def _sheet(self) -> Sheet:
        return sheet_of(self.job.task)

    @property
    def _page_folder(self) -> Path:
        return self.site.state / PAGES / f"{self.job.release}-{self.job.number}-{self.document.id[:8]}"


def _patients(data: SiteData) -> frozenset[str]:
    return frozenset(case.patient_key for case in data.test)


def training_job_of(passport: Passport) -> TrainingJob:
    """Give the release's network, task, input and window as those who read cases and run networks ask for them.

    Nothing is trained with it, and its other numbers mean nothing.

    Raises:
        ReleaseRefused: ``altered_passport``: they do not fit each other.
    """
    try:
        return TrainingJob(
            kind="train",
            name=passport.name,
            input=passport.input,
            task=passport.task,
            network=passport.network,
            training=Training(
                rounds=1,
                steps_per_round=1,
                batch_size=_BATCH_SIZE,
                patch_size=passport.patch_size,
                learning_rate=1e-3,
            ),
            exchange=Exchange(mode="plain", max_update_norm=1.0),
        )
    except ValueError as error:
        raise ReleaseRefused(
            "altered_passport", f"the passport's network, task and window do not fit: {error}"
        ) from error
