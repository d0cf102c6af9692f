"""Finished trainings and answered gates as they lie in a coordinator's folder, without a federation."""

from __future__ import annotations

import hashlib

import numpy as np

from fedward.federation.best import Best
from fedward.federation.record import JobRecord, RoundRecord, SiteOutcome
from fedward.files import write_bytes, write_text
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.weights import layout_of, named
from fedward.release.package import MODEL, model_bytes
from fedward.settings.job import GateJob, Sites, TrainingJob
from fedward_flare.jobs import PreparedJob, prepare
from fedward_flare.releases import keep_document
from fedward_flare.results import RECORD, FinishedJob
from fedward_flare.workdir import Workdir

GATE = GateJob(kind="gate", name="gate", margin=0.05, sites=Sites(minimum=1, deadline_s=0.5))
SITES = ("east", "north", "south")


def finished(job: TrainingJob, workdir: Workdir) -> FinishedJob:
    """A training job as it lies in the coordinator's folder when it was fetched."""
    prepared = prepare(job, workdir)
    keep_document(prepared, workdir)
    weights = initial_weights(job) + np.float32(0.25)
    record = JobRecord.begin(prepared.document).with_round(
        RoundRecord(number=1, seconds=1.0, weights=dict.fromkeys(SITES, 10))
    )
    sha256 = hashlib.sha256(weights.tobytes()).hexdigest()
    record = record.with_best(Best(round_number=1, score=None), sha256).end("completed", None)
    folder = workdir.job(prepared.document.id)
    layout = layout_of(build(job.network, task=job.task))
    write_bytes(folder / MODEL, model_bytes(named(layout, weights)))
    write_text(folder / RECORD, record.model_dump_json())
    return FinishedJob(prepared.document.id, record, "FINISHED:COMPLETED", folder, None)


def gate_of(trained: FinishedJob, workdir: Workdir) -> PreparedJob:
    prepared = prepare(GATE, workdir, candidate=trained.folder)
    keep_document(prepared, workdir)
    return prepared


def answer(prepared: PreparedJob, workdir: Workdir, **codes: str) -> None:
    """Fetch the gate's record: what each site has said."""
    said = {site: SiteOutcome(code=codes.get(site, "non_inferior")) for site in SITES}
    record = JobRecord.begin(prepared.document).with_sites(said).end("completed", None)
    write_text(workdir.job(prepared.document.id) / RECORD, record.model_dump_json())
