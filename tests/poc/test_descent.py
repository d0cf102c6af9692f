"""From a release through a warm start to the next one: the gate blocks a worse model and lets a good one pass."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedward.errors import ReleaseRefused
from fedward.hospital import Hospital
from fedward.imaging.splits import assign, read_split_key
from fedward.privacy.mechanisms import Gaussian
from fedward.release.package import read_parts, verify_release
from fedward.release.passport import Passport
from fedward.settings.job import GateJob, PublishJob, Sites, StartFrom, TrainingJob
from fedward.settings.site import read_site_settings
from fedward_flare.jobs import prepare
from fedward_flare.releases import keep_document, release_job
from fedward_flare.results import FinishedJob
from tiny_federation import NAMES, PATIENTS, Federation, training_job

pytestmark = pytest.mark.federation

#: With sixteen held-out patients a sum of 16 x 0.5 stands against noise of deviation 1.4.
HELD_OUT = 16
GATE = GateJob(
    kind="gate",
    name="gate",
    margin=0.5,
    confidence=0.5,
    noise_multiplier=1.0,
    sites=Sites(minimum=4, deadline_s=120),
)
PUBLISH = PublishJob(kind="publish", name="publish", sites=Sites(minimum=4, deadline_s=60))


@pytest.fixture(scope="module", autouse=True)
def _held_out_patients(federation: Federation) -> Iterator[None]:
    """Give each hospital copies of its patients under names that its own split keeps for testing."""
    made: list[Path] = []
    for name in NAMES:
        folder = federation.workdir.hospital(name)
        split, key = read_site_settings(federation.workdir.site_file(name)).split, read_split_key(folder / "state")
        names = (f"held{number}" for number in range(10_000))
        kept = [one for one in names if assign(one, key=key, split=split) == "test"][:HELD_OUT]
        for number, patient in enumerate(kept):
            for kind in ("images", "labels"):
                target = folder / kind / f"{patient}.nii.gz"
                shutil.copyfile(folder / kind / f"{name}{number % PATIENTS:02d}.nii.gz", target)
                made.append(target)
    yield
    for path in made:
        path.unlink()


def job_of(steps: int, **changes: object) -> TrainingJob:
    job = training_job(steps=steps, rounds=1, minimum=4, mode="secure-sum")
    training = job.training.model_copy(update={"learning_rate": 1e-2, "batch_size": 2})
    return job.model_copy(update={"name": "gated", "training": training, **changes})


def asked(trained: FinishedJob, federation: Federation) -> tuple[str, dict[str, str]]:
    """Ask the gate; give its id and what each site said."""
    prepared = prepare(GATE, federation.workdir, candidate=trained.folder)
    keep_document(prepared, federation.workdir)
    record = federation.session.watch(federation.session.submit(prepared), timeout_s=180).record
    assert record.status == "completed"
    return prepared.document.id, {site: outcome.code for site, outcome in record.sites.items()}


def published(release: Path, federation: Federation) -> Passport:
    prepared = prepare(PUBLISH, federation.workdir, release=release)
    record = federation.session.watch(federation.session.submit(prepared), timeout_s=120).record
    assert {site: outcome.code for site, outcome in record.sites.items()} == dict.fromkeys(NAMES, "done")
    return verify_release(read_parts(release)).passport


def test_a_worse_model_is_blocked_and_one_that_starts_from_the_release_and_is_as_good_passes(
    federation: Federation, edited_site: Callable[[str, str, str], None]
) -> None:
    first = published(release_job(federation.run(job_of(60)), federation.workdir), federation)

    worse = federation.run(job_of(1))
    edited_site("west", "min_sites = 2", 'min_sites = 2\nkinds = ["train", "publish"]')
    _, said = asked(worse, federation)
    assert said == {"north": "not_shown", "east": "not_shown", "south": "not_shown", "west": "kind_not_allowed"}
    with pytest.raises(ReleaseRefused, match="gate_blocked"):
        release_job(worse, federation.workdir)
    edited_site("west", 'kinds = ["train", "publish"]', 'kinds = ["train", "publish", "gate"]')

    warm = federation.run(job_of(1, start_from=StartFrom(name="gated", number=1)))
    assert warm.record.status == "completed"
    gate_id, said = asked(warm, federation)
    assert said == dict.fromkeys(NAMES, "non_inferior")
    second = published(release_job(warm, federation.workdir), federation)
    assert second.stands_on == first.descent()
    assert (second.gate.outcome, second.gate.job_id) == ("passed", gate_id)
    for name in NAMES:
        entries = Hospital.open(federation.workdir.site_file(name)).ledger().entries()
        assert entries.jobs[gate_id].charged("test") == (Gaussian(1.0, 1),)
