"""What a hospital would answer to a job, asked before it is submitted; nothing is signed, sent or begun.

A site file alone answers for its own bounds. Some bounds need more: the coordinator's certificate, the hospital's
database, its archive. What could not be asked is named, so that nobody takes silence for a yes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedward.dicom.source import open_source
from fedward.errors import FedwardError, JobRefused, StoreError
from fedward.identity.certificates import check_chain, load_certificate, read_certificate
from fedward.identity.document import SignedJob, check_signer
from fedward.imaging.splits import SPLIT_KEY, assign, read_split_key
from fedward.privacy.ledger import Ledger, Terms
from fedward.privacy.plan import TRAIN, VALIDATION, Plan
from fedward.settings.admission import asked_sites, refusals
from fedward.settings.job import EvaluationJob, GateJob, Job, TrainingJob
from fedward.settings.site import SiteSettings, read_site_settings, require_identity
from fedward.store.chain import read_chain
from fedward.store.database import FILE_NAME, Database
from fedward.store.jobs import jobs_this_week


@dataclass(frozen=True)
class Forecast:
    """A hospital's answer.

    Attributes:
        site: Its name.
        refusals: Every reason for a no.
        asks_a_person: Whether the job would wait for a person there.
        unasked: The bounds that this machine cannot answer for.
    """

    site: str
    refusals: tuple[FedwardError, ...]
    asks_a_person: bool
    unasked: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A job, as it would be submitted.

    Attributes:
        job: What is proposed.
        sites: Whom it asks; empty where the job names nobody and the hospitals of each site's roster are meant.
        certificate: The coordinator's; None where it is not at hand.
        now: With a time zone.
    """

    job: Job
    now: datetime
    sites: tuple[str, ...] = ()
    certificate: Path | None = None


def forecast(question: Question, site_file: Path, *, with_data: bool = False) -> Forecast:
    """Give the answer of the hospital whose site file this is.

    Args:
        question: The job.
        site_file: The hospital's own file, or a copy of it: then its database and archive are out of reach.
        with_data: Count the patients of the archive too; needs the hospital's own machine.

    Raises:
        SettingsError: the site file has faults.
        SourceError, StoreError: the archive or the database that is there cannot be read.
    """
    site, job = read_site_settings(site_file), question.job
    found: list[FedwardError] = list(refusals(job, sites=question.sites or asked_sites(job, site=site), site=site))
    unasked: list[str] = []
    found += _identity_refusals(question, site)
    if question.certificate is None:
        unasked.append("coordinators")
    if isinstance(job, TrainingJob):
        found += _budget_refusals(job, site)
    if site.database or (site.state / FILE_NAME).exists():
        with_data = with_data and (site.state / SPLIT_KEY).exists()
        found += _state_refusals(question, site, with_data=with_data)
    else:
        unasked.append("max_jobs_per_week")
        with_data = False
    if isinstance(job, EvaluationJob | GateJob) or (isinstance(job, TrainingJob) and not with_data):
        unasked += ["min_patients", "delta", "what patients have spent"]
    return Forecast(
        site=site.name,
        refusals=tuple(found),
        asks_a_person=job.kind in site.bounds.needs_approval,
        unasked=tuple(unasked),
    )


def _identity_refusals(question: Question, site: SiteSettings) -> Iterator[FedwardError]:
    try:
        trust = require_identity(site)
        if question.certificate is None:
            return
        content = question.certificate.read_bytes()
        check_signer(SignedJob(document=b"", signature=b"", certificate=content), trust)
        check_chain(load_certificate(content), read_certificate(trust.root_certificate), now=question.now)
    except FedwardError as refusal:
        yield refusal


def _budget_refusals(job: TrainingJob, site: SiteSettings) -> Iterator[FedwardError]:
    """A plan that costs more than the whole cap is refused whatever patients have spent."""
    plan, terms = Plan(job, site.privacy), _terms(site)
    try:
        whole = terms.budget
    except ValueError as error:
        yield StoreError("ledger_terms", str(error))
        return
    if job.privacy is not None and max(terms.costs(plan.whole()).values()) > whole:
        yield JobRefused("privacy_spent", f"the job costs more than the whole cap of epsilon {terms.epsilon:g}")


def _state_refusals(question: Question, site: SiteSettings, *, with_data: bool) -> Iterator[JobRefused]:
    database = Database.open(site.state, site.database)
    try:
        most = site.bounds.max_jobs_per_week
        if jobs_this_week(database, now=question.now) >= most:
            yield JobRefused("too_many_jobs", f"[bounds] max_jobs_per_week is {most}, and so many were taken")
        if with_data and isinstance(question.job, TrainingJob):
            yield from _cohort_refusals(question, question.job, site, database)
    finally:
        database.close()


def _cohort_refusals(
    question: Question, job: TrainingJob, site: SiteSettings, database: Database
) -> Iterator[JobRefused]:
    groups = _groups_of_patients(job, site)
    plan = Plan(job, site.privacy)
    try:
        plan.check_delta(len(groups))
    except JobRefused as refusal:
        yield refusal
    smallest, count = site.bounds.min_patients, Counter(groups.values())[TRAIN]
    if count < smallest:
        yield JobRefused("too_few_patients", f"[bounds] min_patients is {smallest}, {count} patients can train")
        return
    with database.transaction() as session:
        has_ledger = bool(read_chain(session)[0])
    if job.privacy is None or not has_ledger:
        return
    ledger = Ledger.open(database, state=site.state, terms=_terms(site), clock=lambda: question.now)
    training = [ledger.pseudonym(patient) for patient, group in groups.items() if group == TRAIN]
    cost, after = ledger.terms.costs(plan.whole())[TRAIN], site.privacy.allow_non_private
    can = len(ledger.able(training, cost=cost, after_unprotected=after))
    if can < smallest:
        yield JobRefused("privacy_spent", f"{can} of {count} patients have enough privacy left, {smallest} are needed")


def _groups_of_patients(job: TrainingJob, site: SiteSettings) -> dict[str, str]:
    """Give the group of each patient with a labelled series of the job's modality, by the hospital's own split."""
    key = read_split_key(site.state)
    studies = [study for source in site.data for study in open_source(source).studies()]
    patients = {
        site.patient_of(study.patient_key)
        for study in studies
        if study.has_label and study.modality == job.input.modality
    }
    parts = {patient: assign(patient, key=key, split=site.split) for patient in patients}
    return {patient: part for patient, part in parts.items() if part in (TRAIN, VALIDATION)}


def _terms(site: SiteSettings) -> Terms:
    caps = site.privacy
    return Terms(epsilon=caps.epsilon, delta=caps.delta, order=caps.renyi_order)
