"""A charge buys one answer, also when the process dies between any two steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fedward.errors import FedwardError
from fedward.privacy.ledger import JobId, Ledger, Terms
from fedward.privacy.mechanisms import Gaussian
from fedward.privacy.plan import TRAIN
from fedward.privacy.sealed import Answer, answer_once
from fedward.store.database import Database
from fedward.store.vault import Vault

ROUND = {TRAIN: (Gaussian(4.0, 1),)}
WHOLE = {TRAIN: (Gaussian(4.0, 4),)}
ENDS = datetime(2100, 1, 1, tzinfo=UTC)


def ledger_in(state: Path) -> Ledger:
    ledger = Ledger.open(Database.open(state), state=state, terms=Terms(8.0, 1e-5, 4))
    ledger.reserve(
        JobId("job", "lungs", "document", ENDS),
        patients=dict.fromkeys(("ann", "bob"), TRAIN),
        plan=WHOLE,
        smallest_cohort={TRAIN: 1},
    )
    return ledger


def fresh_answer() -> Answer:
    """No two are alike, as no two runs of private training are."""
    return Answer(np.frombuffer(os.urandom(40), np.uint8).astype(np.float32), 10, {"validation_total": 1.5})


def ask(
    ledger: Ledger, folder: Path, number: int = 1, model: str = "model", make: Callable[[], Answer] = fresh_answer
) -> Answer:
    vault = Vault.open(folder / "storage.key")
    return answer_once(
        ledger, folder, vault=vault, job_id="job", number=number, model_sha256=model, spend=ROUND, make=make
    )


def never() -> Answer:
    raise AssertionError("a sealed round is not trained again")


def test_an_answer_is_the_same_after_the_disk(tmp_path: Path) -> None:
    answer = fresh_answer()
    read = Answer.from_bytes(answer.to_bytes())
    assert answer.update is not None
    assert read.update is not None
    np.testing.assert_array_equal(read.update, answer.update)
    assert (read.weight, read.metrics) == (10, {"validation_total": 1.5})
    assert Answer.from_bytes(Answer(None, 10, {}).to_bytes()).update is None


def test_the_same_request_gets_the_same_update_and_one_charge(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    first = ask(ledger, tmp_path)
    again = ask(ledger_in(tmp_path), tmp_path, make=never)
    np.testing.assert_array_equal(first.update, again.update)
    kinds = [line["kind"] for line in ledger.entries().contents]
    assert kinds == ["open", "reserve", "charge", "seal", "sent"]


def test_another_model_for_a_known_round_gets_nothing(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    ask(ledger, tmp_path)
    with pytest.raises(FedwardError, match="model_changed"):
        ask(ledger, tmp_path, model="another", make=never)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"other")])
def test_a_sealed_answer_that_is_lost_or_damaged_is_not_replaced(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    ledger = ledger_in(tmp_path)
    ask(ledger, tmp_path)
    damage(tmp_path / "sealed-1")
    with pytest.raises(FedwardError, match="round_is_over"):
        ask(ledger, tmp_path, make=never)


def test_a_sealed_answer_tells_nothing_to_who_has_the_state_and_not_the_key(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    answer = ask(ledger, tmp_path)
    assert answer.update is not None
    on_disk = (tmp_path / "sealed-1").read_bytes()
    assert answer.update.tobytes() not in on_disk
    assert b"validation_total" not in on_disk
    (tmp_path / "storage.key").unlink()
    with pytest.raises(FedwardError, match="round_is_over"):
        ask(ledger, tmp_path, make=never)


def test_answers_of_old_rounds_do_not_pile_up(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    for number in (1, 2, 3):
        ask(ledger, tmp_path, number)
    assert sorted(path.name for path in tmp_path.glob("sealed-*")) == ["sealed-2", "sealed-3"]
    with pytest.raises(FedwardError, match="round_is_over"):
        ask(ledger, tmp_path, 1, make=never)


#: Where the process kills itself: the call that comes next, or the training itself.
STEPS = ("charge", "train", "write", "seal", "mark_sent", "leave")


def _one_round(state: Path, die_before: str | None) -> None:
    """A site's round in a process of its own, killed by its own hand before one of the steps."""

    def dying(step: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if step == die_before:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    ledger = ledger_in(state)
    for step in ("charge", "seal", "mark_sent"):
        setattr(ledger, step, dying(step, getattr(ledger, step)))
    Vault.write = dying("write", Vault.write)  # type: ignore[assignment, method-assign]
    answer = ask(ledger, state, make=dying("train", fresh_answer))  # type: ignore[arg-type]
    dying("leave", lambda: None)()
    assert answer.update is not None
    with (state / "left").open("ab") as file:
        file.write(answer.update.tobytes())
    os._exit(0)


@pytest.mark.parametrize("repetition", range(4))
@pytest.mark.parametrize("step", STEPS)
def test_a_site_killed_at_any_step_charges_once_and_sends_one_update(
    tmp_path: Path, step: str, repetition: int
) -> None:
    context = multiprocessing.get_context("fork")
    tmp_path.chmod(0o700)
    for die_before, expected in ((step, -signal.SIGKILL), (None, 0), (None, 0)):
        process = context.Process(target=_one_round, args=(tmp_path, die_before))
        process.start()
        process.join(60)
        assert process.exitcode == expected
    left = (tmp_path / "left").read_bytes()
    assert left[:160] == left[160:], "both whole runs sent the same update"
    ledger = ledger_in(tmp_path)
    kinds = [line["kind"] for line in ledger.entries().contents]
    assert kinds.count("charge") == kinds.count("seal") == kinds.count("sent") == 1
    ledger.close("job")
    entries = ledger.entries()
    assert entries.held("ann") == pytest.approx(4 / (2 * 4.0**2))
