from __future__ import annotations

from pathlib import Path

import pytest

from fedward.errors import JobRefused
from fedward.store.database import Database
from fedward.store.jobs import end_job, remember_job, was_witnessed, witness
from trust_cases import DAY, NOW

JOB, OTHER = "1" * 32, "2" * 32


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.open(tmp_path / "state")


def remember(database: Database, *, job_id: str = JOB, digest: str = "a") -> None:
    remember_job(database, job_id=job_id, kind="train", name="nodule", digest=digest * 64, now=NOW)


def saw(database: Database, weights: str, *, job_id: str = JOB) -> bool:
    with database.transaction() as session:
        return was_witnessed(session, job_id=job_id, weights_sha256=weights * 64)


def test_a_job_that_has_not_ended_may_be_resumed(database: Database) -> None:
    for _ in range(3):
        remember(database)


def test_a_job_that_has_ended_runs_no_second_time(database: Database) -> None:
    remember(database)
    end_job(database, job_id=JOB, now=NOW)
    with pytest.raises(JobRefused, match="repeated_job") as caught:
        remember(database)
    assert "ended here at 2031-05-17" in caught.value.detail
    remember(database, job_id=OTHER)


def test_an_id_belongs_to_one_document(database: Database) -> None:
    remember(database, digest="a")
    with pytest.raises(JobRefused, match="repeated_job"):
        remember(database, digest="b")


def test_a_job_ends_once_and_an_unknown_one_not_at_all(database: Database) -> None:
    remember(database)
    end_job(database, job_id=JOB, now=NOW)
    end_job(database, job_id=JOB, now=NOW + DAY)
    end_job(database, job_id=OTHER, now=NOW)
    with pytest.raises(JobRefused, match="repeated_job") as caught:
        remember(database)
    assert f"{NOW:%Y-%m-%d}" in caught.value.detail
    remember(database, job_id=OTHER)


def test_a_model_is_known_in_the_job_that_it_came_in(database: Database) -> None:
    witness(database, job_id=JOB, number=2, weights_sha256="c" * 64, now=NOW)
    assert saw(database, "c")
    assert not saw(database, "d")
    assert not saw(database, "c", job_id=OTHER)


def test_a_round_comes_again_with_the_same_model_only(database: Database) -> None:
    for _ in range(2):
        witness(database, job_id=JOB, number=2, weights_sha256="c" * 64, now=NOW)
    with pytest.raises(JobRefused, match="model_changed"):
        witness(database, job_id=JOB, number=2, weights_sha256="d" * 64, now=NOW)
    assert not saw(database, "d")
    witness(database, job_id=JOB, number=3, weights_sha256="d" * 64, now=NOW)
    assert saw(database, "d")


def test_a_site_takes_so_many_jobs_in_any_week_and_resumes_them_all_the_same(database: Database) -> None:
    def take(number: int, days: int) -> None:
        remember_job(
            database,
            job_id=f"{number:032x}",
            kind="train",
            name="nodule",
            digest="a" * 64,
            now=NOW + days * DAY,
            max_per_week=2,
        )

    take(1, 0)
    take(2, 3)
    take(1, 3)
    for days in (3, 6):
        with pytest.raises(JobRefused, match="too_many_jobs"):
            take(3, days)
    take(3, 8)
    with pytest.raises(JobRefused, match="too_many_jobs"):
        take(4, 9)
