from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fedward.errors import ReleaseRefused
from fedward.store.database import Database
from fedward.store.releases import (
    activate,
    active_of,
    active_release,
    find_release,
    remember_release,
    roll_back,
    stored_releases,
)
from trust_cases import NOW

NAMES = st.sampled_from(["nodule", "hippocampus"])
NUMBERS = st.integers(1, 5)


def remember(database: Database, name: str, number: int, *, minutes: int = 0) -> None:
    with database.transaction() as session:
        remember_release(
            session,
            name=name,
            number=number,
            model_sha256=f"{number:064x}",
            passport_sha256="b" * 64,
            now=NOW + timedelta(minutes=minutes),
        )


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.open(tmp_path / "state")


def test_a_release_is_a_candidate_until_it_is_activated(database: Database) -> None:
    remember(database, "nodule", 1)
    assert [(r.is_active, r.was_active) for r in stored_releases(database)] == [(False, False)]
    with pytest.raises(ReleaseRefused, match="no_active_model"):
        active_release(database)
    activate(database, name="nodule", number=1, now=NOW)
    found = active_release(database)
    assert (found.name, found.number, found.model_sha256, found.installed_at) == ("nodule", 1, f"{1:064x}", NOW)
    assert found.was_active


def test_an_older_number_is_refused_even_after_a_rollback(database: Database) -> None:
    for number in (2, 4):
        remember(database, "nodule", number)
        activate(database, name="nodule", number=number, now=NOW)
    assert roll_back(database, now=NOW) == ("nodule", 2)
    for number, code in (
        (1, "older_release"),
        (3, "older_release"),
        (4, "already_installed"),
        (2, "already_installed"),
    ):
        with pytest.raises(ReleaseRefused, match=code):
            remember(database, "nodule", number)
    remember(database, "nodule", 5)
    remember(database, "hippocampus", 1)


def test_rolling_back_ends_at_the_first_model(database: Database) -> None:
    with pytest.raises(ReleaseRefused, match="no_active_model"):
        roll_back(database, now=NOW)
    for number in (1, 2):
        remember(database, "nodule", number)
        activate(database, name="nodule", number=number, now=NOW)
    assert roll_back(database, now=NOW) == ("nodule", 1)
    with pytest.raises(ReleaseRefused, match="no_active_model"):
        roll_back(database, now=NOW)
    assert active_release(database).number == 1


def test_a_release_of_a_name_is_the_one_activated_last_and_not_taken_back(database: Database) -> None:
    for name, number in (("nodule", 1), ("nodule", 2), ("judge", 1)):
        remember(database, name, number)
    assert active_of(database, "nodule") is None, "a candidate was never activated"
    for name, number in (("nodule", 1), ("nodule", 2), ("judge", 1)):
        activate(database, name=name, number=number, now=NOW)
    assert active_of(database, "nodule").number == 2
    assert active_release(database).name == "judge"
    for _ in range(2):
        roll_back(database, now=NOW)
    assert active_of(database, "nodule").number == 1
    assert active_of(database, "judge") is None


def test_the_latest_installed_comes_first(database: Database) -> None:
    remember(database, "nodule", 1, minutes=5)
    remember(database, "hippocampus", 3, minutes=9)
    remember(database, "nodule", 2, minutes=7)
    assert [(r.name, r.number) for r in stored_releases(database)] == [("hippocampus", 3), ("nodule", 2), ("nodule", 1)]


def test_what_is_not_here_is_neither_found_nor_activated(database: Database) -> None:
    remember(database, "nodule", 1)
    for name, number in (("nodule", 2), ("other", 1)):
        with pytest.raises(ReleaseRefused, match="not_installed"):
            activate(database, name=name, number=number, now=NOW)
        with pytest.raises(ReleaseRefused, match="not_installed"):
            find_release(database, name, number)


class RunningModel(RuleBasedStateMachine):
    """Any order of installing, activating and rolling back, beside a list of what ran."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database.open(Path(self.folder.name) / "state")
        self.installed: set[tuple[str, int]] = set()
        self.ran: list[tuple[str, int]] = []

    @rule(name=NAMES, number=NUMBERS)
    def install(self, name: str, number: int) -> None:
        if number > max((held for of, held in self.installed if of == name), default=0):
            remember(self.database, name, number)
            self.installed.add((name, number))
        else:
            with pytest.raises(ReleaseRefused, match=r"older_release|already_installed"):
                remember(self.database, name, number)

    @rule(name=NAMES, number=NUMBERS)
    def activate(self, name: str, number: int) -> None:
        if (name, number) not in self.installed:
            with pytest.raises(ReleaseRefused, match="not_installed"):
                activate(self.database, name=name, number=number, now=NOW)
            return
        activate(self.database, name=name, number=number, now=NOW)
        if self.ran[-1:] != [(name, number)]:
            self.ran.append((name, number))

    @rule()
    def roll_back(self) -> None:
        if len(self.ran) > 1:
            self.ran.pop()
            assert roll_back(self.database, now=NOW) == self.ran[-1]
        else:
            with pytest.raises(ReleaseRefused, match="no_active_model"):
                roll_back(self.database, now=NOW)

    @invariant()
    def the_last_that_ran_is_the_only_one_active(self) -> None:
        active = [(release.name, release.number) for release in stored_releases(self.database) if release.is_active]
        assert active == self.ran[-1:]

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


TestRunningModel = RunningModel.TestCase
TestRunningModel.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
