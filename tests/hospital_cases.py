"""A hospital with a dozen patients, and the coordinator whom it lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedward.hospital import Hospital
from fedward.identity.certificates import fingerprint
from fedward.identity.document import JobDocument, SignedJob, new_job_document, sign_job
from fedward.release.package import ReleaseParts
from fedward.settings.job import InferenceJob, PublishJob, TrainingJob
from release_cases import ROOT
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


def document_of(job: TrainingJob | PublishJob | InferenceJob, parts: ReleaseParts | None = None) -> JobDocument:
    return new_job_document(job, project=PROJECT, sites=SITES, now=NOW, release=parts.hashes if parts else None)
