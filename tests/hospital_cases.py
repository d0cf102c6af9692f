"""A hospital with a dozen patients, and the coordinator whom it lists."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedward.evaluation.ranges import collected
from fedward.federation.averaging import apply_update
from fedward.federation.record import JobRecord, RoundRecord
from fedward.hospital import Hospital, RoundTask, TrainedRound
from fedward.identity.certificates import fingerprint
from fedward.identity.document import Candidate, JobDocument, SignedJob, new_job_document, sign_job
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.weights import layout_of, named
from fedward.release.gate import FIRST_RELEASE, GateStatement
from fedward.release.make import make_release
from fedward.release.package import ReleaseParts, model_bytes
from fedward.release.passport import Passport
from fedward.settings.job import Job, PublishJob, Sites, TrainingJob
from release_cases import CERTIFICATE, KEY, ROOT
from tiny_federation import SITE_FILE, write_archive
from trust_cases import NOW, PROJECT, pem, pem_of, rsa_key

COORDINATOR = ROOT.leaf("coordinator")
SITES = ("east", "north")


@dataclass
class Site:
    """A hospital with a dozen patients in its own folder, and the coordinator that it lists."""

    folder: Path

    @property
    def site_file(self) -> Path:
        return self.folder / "site.toml"

    def open(self) -> Hospital:
        hospital = Hospital.open(self.site_file)
        hospital.clock = lambda: NOW
        return hospital

    def edit(self, change: Callable[[str], str]) -> None:
        self.site_file.write_text(change(self.site_file.read_text(encoding="utf-8")), encoding="utf-8")


def make_site(folder: Path) -> Site:
    write_archive(folder, "north")
    (folder / "root.pem").write_bytes(pem(ROOT.certificate))
    (folder / "state").mkdir(mode=0o700)
    (folder / "state" / "split.key").write_bytes(bytes(32))
    trusted = f'[identity]\nproject = "{PROJECT}"\nroot_certificate = "root.pem"\ncoordinators = ["{signer()}"]\n'
    prints = {name: fingerprint(ROOT.leaf(name)) for name in SITES}
    line = '{{ name = "{0}", organisation = "{0}", fingerprint = "{1}" }}'
    trusted += f"hospitals = [{', '.join(line.format(*peer) for peer in prints.items())}]\n"
    made = Site(folder)
    made.site_file.write_text(SITE_FILE.format(name="north") + trusted, encoding="utf-8")
    made.site_file.chmod(0o600)
    return made


def signer() -> str:
    return fingerprint(COORDINATOR)


def signed(document: JobDocument) -> SignedJob:
    return sign_job(document, private_key=pem_of(rsa_key("coordinator")), certificate=pem(COORDINATOR))


def document_of(job: Job, parts: ReleaseParts | None = None, *, candidate: Candidate | None = None) -> JobDocument:
    hashes = parts.hashes if parts else None
    return new_job_document(job, project=PROJECT, sites=SITES, now=NOW, release=hashes, candidate=candidate)


def publishing(parts: ReleaseParts) -> JobDocument:
    return document_of(PublishJob(kind="publish", name="publish", sites=Sites(minimum=1)), parts)


@dataclass(frozen=True)
class Trained:
    """A whole training job at one hospital, with the update of each round."""

    document: JobDocument
    rounds: tuple[TrainedRound, ...]
    weights: np.ndarray

    @property
    def model(self) -> bytes:
        job = self.document.job
        return model_bytes(named(layout_of(build(job.network, task=job.task)), self.weights))

    @property
    def weights_sha256(self) -> str:
        return hashlib.sha256(self.weights.tobytes()).hexdigest()

    def release(
        self, number: int = 1, *, gate: GateStatement = FIRST_RELEASE, parent: Passport | None = None
    ) -> ReleaseParts:
        """Sign the last model, as the coordinator does with what the server kept."""
        entries = tuple(
            RoundRecord(number=n, seconds=1.0, weights=dict.fromkeys(SITES, 10), failures={}) for n in (1, 2)
        )
        record = JobRecord.begin(self.document).model_copy(
            update={
                "status": "completed",
                "rounds": entries,
                "best_round": 2,
                "weights_sha256": self.weights_sha256,
                "trained_on": collected({"north": self.rounds[0].metrics}, self.document.job.input),
            }
        )
        return make_release(
            self.model,
            self.document,
            record,
            number=number,
            gate=gate,
            parent=parent,
            now=NOW,
            key=KEY,
            certificate=CERTIFICATE,
        )


def train_at(hospital: Hospital, job: TrainingJob) -> Trained:
    """Train a job of two rounds at one hospital, which plays the whole federation."""
    document = hospital.accept(signed(document_of(job)))
    weights, rounds = initial_weights(job), []
    for number in (1, 2):
        rounds.append(hospital.train_round(RoundTask(document=document, number=number, weights=weights)))
        weights = apply_update(weights, rounds[-1].update)
    hospital.evaluate(RoundTask(document=document, number=3, weights=weights))
    return Trained(document, tuple(rounds), weights)
