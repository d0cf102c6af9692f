"""What a curious server really receives of an encrypted sum, recorded in its own process."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import chisquare

from fedward.privacy.sealed import Answer
from fedward_flare import poc
from fedward_flare.jobs import SERVER_APP, export, prepare
from fedward_flare.provisioning import SERVER_CLASSES
from fedward_flare.workdir import Workdir, claimed
from recording_controller import RECORDED
from support import ROOT
from tiny_federation import federation_of, training_job, write_archive

pytestmark = pytest.mark.federation
SITES = ("north", "east", "south")
ROUNDS = 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Give the vectors that the server received and the updates that the sites had sealed, by site and round."""
    folder, sources = tmp_path_factory.mktemp("recorded"), tmp_path_factory.mktemp("sites")
    options = poc.StartOptions(
        builder={"server_classes": [*SERVER_CLASSES, "recording_controller.RecordingController"]},
        environment={"PYTHONPATH": str(ROOT / "tests"), RECORDED: str(folder)},
    )
    with claimed(tmp_path_factory.mktemp("poc") / "work") as workdir:
        for name in SITES:
            write_archive(workdir.hospital(name), name)
        with poc.running(federation_of(sources, SITES), workdir, options=options) as session:
            prepared = prepare(training_job(steps=30, rounds=ROUNDS, mode="secure-sum"), workdir)
            job = export(prepared, sources / "job")
            config = job / SERVER_APP / "config" / "config_fed_server.json"
            config.write_text(
                config.read_text().replace(
                    "fedward_flare.training_controller.TrainController", "recording_controller.RecordingController"
                )
            )
            session.submit_folder(job)
            updates = sealed_updates(workdir, prepared.document.id)
            assert session.watch(prepared.document.id, timeout_s=200).record.status == "completed"
    vectors = {path.stem: np.load(path) for path in folder.iterdir()}
    assert sorted(vectors) == sorted(f"{site}-{number}" for site in SITES for number in range(1, ROUNDS + 1))
    return vectors, updates


def sealed_updates(workdir: Workdir, job_id: str) -> dict[str, np.ndarray]:
    """Copy what the sites seal while the job runs: it is gone when the job is done."""
    found: dict[str, np.ndarray] = {}
    deadline = time.monotonic() + 150
    while len(found) < len(SITES) * ROUNDS and time.monotonic() < deadline:
        for site in SITES:
            for path in (workdir.hospital(site) / "state" / "jobs" / job_id).glob("sealed-[1-3].npz"):
                try:
                    answer = Answer.from_bytes(path.read_bytes())
                except OSError:
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
