"""What a curious server really receives, recorded in its own processes: sums that it cannot read, and no word."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

import canary_archive
from canary_archive import CANARIES
from fedward.errors import StoreError
from fedward.privacy.sealed import Answer
from fedward.settings.federation import FederationSettings, HospitalEntry, Project
from fedward.settings.job import InferenceJob, PublishJob, Sites
from fedward.settings.site import STORAGE_KEY
from fedward.store.vault import Vault
from fedward_flare import poc
from fedward_flare.jobs import SERVER_APP, export, prepare
from fedward_flare.provisioning import SERVER_CLASSES
from fedward_flare.releases import release_job
from fedward_flare.workdir import claimed
from recording_controller import RECORDED
from support import ROOT
from tiny_federation import Federation, training_job

pytestmark = pytest.mark.federation
SITES = ("north", "east", "south")
ROUNDS = 3


@dataclass(frozen=True)
class Recording:
    """A federation whose server is recorded.

    Attributes:
        federation: At work.
        vectors: The folder of the masked vectors that the server took.
        wire: The folder of everything that the server's processes received, decrypted.
        failing: While this file is there, the hospitals' training fails with its words.
    """

    federation: Federation
    vectors: Path
    wire: Path
    failing: Path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    vectors, wire = tmp_path_factory.mktemp("vectors"), tmp_path_factory.mktemp("wire")
    sources = tmp_path_factory.mktemp("sites")
    failing = sources / "failing"
    path = os.pathsep.join((str(ROOT / "tests" / "recorder"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")))
    options = poc.StartOptions(
        builder={"server_classes": [*SERVER_CLASSES, "recording_controller.RecordingController"]},
        environment={
            "PYTHONPATH": path, RECORDED: str(vectors), "RECORDED_WIRE": str(wire), "FAILING_HOSPITALS": str(failing)
        },
    )  # fmt: skip
    for name in SITES:
        (sources / f"{name}.toml").write_text(canary_archive.SITE_FILE.format(name=name))
    hospitals = tuple(HospitalEntry(name=n, organisation=n, site_file=sources / f"{n}.toml") for n in SITES)
    settings = FederationSettings(federation=Project(project="poc_tests"), hospital=hospitals)
    with claimed(tmp_path_factory.mktemp("poc") / "work") as workdir:
        for name in SITES:
            canary_archive.write_archive(workdir.hospital(name), name)
        with poc.running(settings, workdir, options=options) as session:
            yield Recording(Federation(workdir, session), vectors, wire, failing)


@pytest.fixture(scope="module")
def recorded(
    recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Give the vectors that the server received and the updates that the sites had sealed, by site and round."""
    workdir, session = recording.federation.workdir, recording.federation.session
    prepared = prepare(training_job(steps=30, rounds=ROUNDS, mode="secure-sum"), workdir)
    job = export(prepared, tmp_path_factory.mktemp("job") / "job")
    config = job / SERVER_APP / "config" / "config_fed_server.json"
    config.write_text(
        config.read_text().replace(
            "fedward_flare.training_controller.TrainController", "recording_controller.RecordingController"
        )
    )
    session.submit_folder(job)
    updates = sealed_updates(recording, prepared.document.id)
    assert session.watch(prepared.document.id, timeout_s=200).record.status == "completed"
    vectors = {path.stem: np.load(path) for path in recording.vectors.iterdir()}
    assert sorted(vectors) == sorted(f"{site}-{number}" for site in SITES for number in range(1, ROUNDS + 1))
    return vectors, updates


def sealed_updates(recording: Recording, job_id: str) -> dict[str, np.ndarray]:
    """Copy what the sites seal while the job runs: it is gone when the job is done."""
    found: dict[str, np.ndarray] = {}
    deadline = time.monotonic() + 150
    while len(found) < len(SITES) * ROUNDS and time.monotonic() < deadline:
        for site in SITES:
            hospital = recording.federation.workdir.hospital(site)
            jobs = hospital / canary_archive.STATE / "jobs"
            for path in (jobs / job_id).glob("sealed-[1-3]"):
                try:
                    answer = Answer.from_bytes(Vault.open(hospital / STORAGE_KEY).read(path))
                except StoreError:
                    continue
                if answer.update is not None:
                    found[f"{site}-{path.stem.removeprefix('sealed-')}"] = answer.update
        time.sleep(0.02)
    return found


def test_every_vector_looks_like_noise(recorded: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    for name, vector in recorded[0].items():
        counts = np.bincount(vector.view(np.uint8), minlength=256)
        assert chisquare(counts).pvalue > 1e-6, name


def test_no_vector_tells_of_its_update(recorded: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    vectors, updates = recorded
    assert len(updates) >= 2 * len(SITES)
    for name, update in updates.items():
        masked = vectors[name][: update.size].astype(float)
        assert abs(np.corrcoef(masked, update)[0, 1]) < 5 / np.sqrt(update.size), name


def test_no_two_vectors_tell_of_each_other(recorded: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    vectors = np.stack(list(recorded[0].values())).astype(float)
    correlation = np.corrcoef(vectors) - np.eye(len(vectors))
    assert np.abs(correlation).max() < 5 / np.sqrt(vectors.shape[1])


@pytest.fixture(scope="module")
def told(recording: Recording, recorded: object) -> Recording:
    """Have trained, published and inferred, failed and been aborted; give the recording of all of it."""
    federation, everybody = recording.federation, Sites(minimum=3, deadline_s=120)
    workdir, session = federation.workdir, federation.session
    finished = federation.run(training_job(steps=2, rounds=2, mode="secure-sum"))
    release = release_job(finished, workdir)
    publish = prepare(PublishJob(kind="publish", name="publish", sites=everybody), workdir, release=release)
    infer = prepare(InferenceJob(kind="infer", name="infer", sites=everybody), workdir)
    for job in (publish, infer):
        outcomes = session.watch(session.submit(job), timeout_s=180).record.sites
        assert {site: outcome.code for site, outcome in outcomes.items()} == dict.fromkeys(SITES, "done")
    recording.failing.write_text(canary_archive.exception_text())
    failed = federation.run(training_job(rounds=1)).record
    recording.failing.unlink()
    assert failed.status == "failed"
    assert failed.rounds[0].failures == dict.fromkeys(SITES, "internal_error")
    aborted = federation.submit(training_job(steps=2000, rounds=50))
    time.sleep(12)
    session.abort(aborted)
    assert session.watch(aborted, timeout_s=180).record.status == "aborted"
    return recording


def test_no_identifier_reaches_the_server_or_the_coordinator(told: Recording) -> None:
    workdir = told.federation.workdir
    received = {path: path.read_bytes() for path in told.wire.iterdir()}
    assert any(b"fedward_infer" in content for content in received.values()), "the jobs' own processes are recorded"
    assert sum(map(len, received.values())) > 100_000
    folders = (workdir.kit("server"), workdir.root / "server", workdir.coordinator, workdir.root / "tensorboard")
    written = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    written.append(workdir.logs / "server.log")
    assert len(written) > 20
    contents = {**received, **{path: path.read_bytes() for path in written}}
    found = {
        (canary_archive.PLACES[number], str(path))
        for path, content in contents.items()
        for number, canary in enumerate(CANARIES)
        if any(form in content.lower() for form in forms(canary))
    }
    assert found == set()


def test_the_identifiers_were_there_to_be_found(told: Recording) -> None:
    """What was planted lies in the hospitals' own folders, and the search would see it."""
    hospital = told.federation.workdir.hospital("north")
    paths = list(hospital.rglob("*"))
    contents = b"".join(path.read_bytes() for path in paths if path.is_file()).lower()
    contents += " ".join(map(str, paths)).lower().encode()
    missing = {
        place
        for place, canary in zip(canary_archive.PLACES, CANARIES, strict=True)
        if canary.lower().encode() not in contents
    }
    assert missing == set()


def test_what_a_hospital_writes_is_its_owners_alone_and_volumes_and_updates_are_encrypted(told: Recording) -> None:
    workdir = told.federation.workdir
    for site in SITES:
        hospital = workdir.hospital(site)
        own = [*(hospital / canary_archive.STATE).rglob("*"), *hospital.glob("*.key"), *hospital.glob("errors.log")]
        own += [workdir.site_file(site), *workdir.kit(site).rglob("*.key"), workdir.logs / f"{site}.log"]
        assert len(own) > 50
        assert [path for path in own if path.stat().st_mode & 0o077] == []
        cached = [path for path in (hospital / canary_archive.STATE / "cache").rglob("*.*") if path.suffix]
        assert {path.suffix for path in cached} >= {".image", ".label", ".facts"}
        assert all(path.read_bytes().startswith(b"fedward-sealed/1") for path in cached if path.name != ".lock")


def forms(canary: str) -> tuple[bytes, ...]:
    """Give how a text may stand among bytes: as it is, in UTF-16, in hexadecimal, and in the three places of base64."""
    text = canary.lower()
    coded = [base64.b64encode(b" " * shift + canary.encode())[4 if shift else 0 : -4] for shift in range(3)]
    return (text.encode(), text.encode("utf-16-le"), canary.encode().hex().encode(), *(one.lower() for one in coded))
