from __future__ import annotations

import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedward.errors import FedwardError, ReleaseRefused, StoreError
from fedward.release.model_store import find_installed, install_release, load_installed, release_folder
from fedward.release.package import Release, ReleaseParts, Trust, model_bytes
from fedward.release.passport import Passport
from fedward.store.database import Database
from fedward.store.jobs import witness
from fedward.store.releases import StoredRelease, activate, active_release, roll_back, stored_releases
from release_cases import release_identity, release_parts, trust
from trust_cases import DAY, NOW, Authority

PARTS = release_parts()
JOB = "d" * 32


def what_the_passport_says(parts: ReleaseParts, passport: Passport) -> str:
    return passport.weights_sha256


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def database(state: Path) -> Database:
    database = Database.open(state)
    witness(database, job_id=JOB, number=3, weights_sha256="b" * 64, now=NOW)
    return database


def install(
    database: Database,
    state: Path,
    parts: ReleaseParts = PARTS,
    *,
    against: Trust | None = None,
    weights_sha256: Callable[[ReleaseParts, Passport], str] = what_the_passport_says,
) -> Release:
    against = against or trust()
    return install_release(
        parts, site="north", state=state, database=database, trust=against, weights_sha256=weights_sha256
    )


def only(database: Database) -> StoredRelease:
    (stored,) = stored_releases(database)
    return stored


def test_an_installed_release_is_a_candidate_with_its_three_files(database: Database, state: Path) -> None:
    release = install(database, state)
    assert release.signer.is_verified
    stored = only(database)
    assert (stored.name, stored.number, stored.is_active, stored.was_active) == ("lung_nodule", 1, False, False)
    assert load_installed(stored, state=state).parts == PARTS


def test_its_folder_is_the_owners_alone(database: Database, state: Path) -> None:
    install(database, state)
    folder = release_folder(state, "lung_nodule", 1)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


FOREIGN_KEY, FOREIGN = release_identity(Authority("foreign"))


@pytest.mark.parametrize(
    ("parts", "against", "code"),
    [
        (release_parts(key=FOREIGN_KEY, certificate=FOREIGN), trust(), "untrusted_signer"),
        (PARTS, trust(now=NOW + 361 * DAY), "expired_certificate"),
        (release_parts(weights_sha256="c" * 64), trust(), "not_witnessed"),
        (release_parts(job_id="e" * 32), trust(), "not_witnessed"),
        (dataclasses.replace(PARTS, model=PARTS.model + b"\0"), trust(), "altered_model"),
    ],
    ids=["foreign", "expired", "other weights", "other job", "altered"],
)
def test_a_release_that_is_refused_leaves_nothing(
    database: Database, state: Path, parts: ReleaseParts, against: Trust, code: str
) -> None:
    with pytest.raises(ReleaseRefused, match=code):
        install(database, state, parts, against=against)
    assert stored_releases(database) == ()
    assert not (state / "models").exists()


def test_the_file_must_hold_the_weights_that_the_passport_names(database: Database, state: Path) -> None:
    with pytest.raises(ReleaseRefused, match="altered_model") as caught:
        install(database, state, weights_sha256=lambda *_: "c" * 64)
    assert "other weights" in caught.value.detail
    assert stored_releases(database) == ()


def test_numbers_only_rise(database: Database, state: Path) -> None:
    install(database, state, release_parts(number=2))
    for number, code in ((1, "older_release"), (2, "already_installed")):
        with pytest.raises(ReleaseRefused, match=code):
            install(database, state, release_parts(number=number))
    install(database, state, release_parts(number=5))
    assert {release.number for release in stored_releases(database)} == {2, 5}


def test_a_disk_that_is_full_installs_nothing(database: Database, state: Path) -> None:
    (state / "models").write_text("a file where the folder of models should be")
    with pytest.raises(StoreError, match="cannot_write"):
        install(database, state)
    assert stored_releases(database) == ()
    (state / "models").unlink()
    install(database, state)


def test_an_installed_model_runs_on_after_its_certificate_has_expired(database: Database, state: Path) -> None:
    install(database, state, against=trust(now=NOW + 359 * DAY))
    activate(database, name="lung_nodule", number=1, now=NOW + 500 * DAY)
    release = load_installed(active_release(database), state=state)
    assert release.signer.is_verified
    with pytest.raises(ReleaseRefused, match="expired_certificate"):
        install(database, state, release_parts(number=2), against=trust(now=NOW + 500 * DAY))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("model.safetensors", "altered_model"),
        ("passport.json", "altered_passport"),
        ("passport.sig", "altered_signature|untrusted_signer"),
    ],
)
def test_an_installed_file_that_changed_is_not_run(database: Database, state: Path, name: str, code: str) -> None:
    install(database, state)
    path = release_folder(state, "lung_nodule", 1) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReleaseRefused, match=code):
        load_installed(only(database), state=state)


def test_another_true_release_in_its_place_is_not_run(database: Database, state: Path) -> None:
    install(database, state)
    other = release_parts(model=model_bytes({"weight": np.ones(2, np.float32)}))
    folder = release_folder(state, "lung_nodule", 1)
    (folder / "model.safetensors").write_bytes(other.model)
    (folder / "passport.json").write_bytes(other.passport)
    (folder / "passport.sig").write_bytes(other.signature)
    with pytest.raises(ReleaseRefused, match="altered_model"):
        load_installed(only(database), state=state)


def test_a_rollback_brings_the_former_model_back(database: Database, state: Path) -> None:
    for number in (1, 2):
        install(database, state, release_parts(number=number))
        activate(database, name="lung_nodule", number=number, now=NOW)
    assert roll_back(database, now=NOW) == ("lung_nodule", 1)
    assert load_installed(active_release(database), state=state).passport.number == 1
    with pytest.raises(ReleaseRefused, match="already_installed"):
        install(database, state, release_parts(number=2, rounds=9))


@pytest.mark.parametrize(
    "reference", ["lung_nodule", "lung_nodule-", "-1", "lung_nodule-x", "lung_nodule-2", "", "lung_nodule-²"]
)
def test_only_an_installed_name_and_number_is_found(database: Database, state: Path, reference: str) -> None:
    install(database, state)
    assert find_installed(database, "lung_nodule-1") == only(database)
    with pytest.raises(FedwardError, match="not_installed"):
        find_installed(database, reference)
