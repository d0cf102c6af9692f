"""One release of counts: charged once, sealed, and given again as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from evaluation_cases import evaluation_job, evaluation_of, release_of
from fedward.errors import JobRefused, StoreError
from fedward.privacy.head import Head
from fedward.site_counts import TEST, Counts, Reserved, SiteCounts
from hospital_cases import make_site
from tiny_federation import training_job

SIZE = 4
PATIENTS = tuple(f"patient {number}" for number in range(5))


@pytest.fixture
def counts(tmp_path: Path) -> SiteCounts:
    hospital, job = make_site(tmp_path).open(), evaluation_job()
    return SiteCounts.open(
        hospital.site,
        hospital.site_file,
        evaluation_of(job, release_of(training_job())),
        job,
        hospital.ledger(),
        model_sha256="a" * 64,
        size=SIZE,
        bound=2.0,
        clock=hospital.clock,
    )


class Counting:
    def __init__(self, *, with_row: bool = False) -> None:
        self.calls, self.with_row = 0, with_row

    def __call__(self) -> Mapping[str, Counts]:
        self.calls += 1
        return {"counted": np.ones(SIZE), **({"release": np.arange(4.0)} if self.with_row else {})}


def test_what_is_asked_again_is_given_as_it_was_and_counted_once(counts: SiteCounts) -> None:
    count = Counting(with_row=True)
    assert counts.reserve(PATIENTS) == Reserved(frozenset(PATIENTS), frozenset())
    first = counts.leaving(counts.answer(count, groups=(TEST,), seen=None), ())
    again = counts.leaving(counts.answer(count, groups=(TEST,), seen=first.head), ())
    assert count.calls == 1
    np.testing.assert_array_equal(first.noised, again.noised)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.rows["release"], np.arange(4.0))
    (job,) = counts.ledger.entries().jobs.values()
    assert len(job.rounds) == 1


def test_nothing_is_counted_before_it_is_reserved_or_after_the_end(counts: SiteCounts) -> None:
    count = Counting()
    with pytest.raises(JobRefused, match="unknown_job"):
        counts.answer(count, groups=(TEST,), seen=None)
    counts.reserve(PATIENTS)
    counts.close()
    with pytest.raises(JobRefused, match="unknown_job"):
        counts.answer(count, groups=(TEST,), seen=None)
    assert count.calls == 0


def test_a_ledger_that_was_put_back_counts_nothing(counts: SiteCounts) -> None:
    counts.reserve(PATIENTS)
    count = Counting()
    with pytest.raises(StoreError, match="ledger_rolled_back"):
        counts.answer(count, groups=(TEST,), seen=Head(99, "0" * 64))
    assert count.calls == 0


def test_a_hospitals_least_noise_stands_above_the_jobs(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.edit(lambda text: text.replace("[privacy]", "[privacy]\nmin_noise_multiplier = 7.0"))
    hospital, job = site.open(), evaluation_job(noise=2.0)
    made = SiteCounts.open(
        hospital.site,
        hospital.site_file,
        evaluation_of(job, release_of(training_job())),
        job,
        hospital.ledger(),
        model_sha256="a" * 64,
        size=SIZE,
        bound=2.0,
        clock=hospital.clock,
    )
    assert made.noised.noise_multiplier == 7.0


def test_too_few_patients_are_not_counted(counts: SiteCounts) -> None:
    with pytest.raises(JobRefused, match="too_few_patients"):
        counts.reserve(PATIENTS[:2])


@pytest.mark.parametrize("trained", [(), ("f" * 32,), ("f" * 32, "e" * 32)])
def test_few_who_trained_are_refused_where_an_own_model_is_at_stake(
    counts: SiteCounts, trained: tuple[str, ...]
) -> None:
    with pytest.raises(JobRefused, match="too_few_patients"):
        counts.reserve(PATIENTS, trained=trained)
    assert not counts.ledger.entries().jobs


def test_what_was_reserved_first_stands_whoever_is_named_later(counts: SiteCounts) -> None:
    names = [letter * 32 for letter in "abcd"]
    first = counts.reserve(PATIENTS[1:], trained=[*names[:3], counts.ledger.pseudonym(PATIENTS[1])])
    assert first.counted == set(PATIENTS[2:])
    assert first.trained == {*names[:3], counts.ledger.pseudonym(PATIENTS[1])}
    assert counts.reserve(PATIENTS, trained=names) == first
