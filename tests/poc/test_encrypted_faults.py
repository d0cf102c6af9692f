"""Hospitals that die in the middle of an encrypted sum: the round ends, and they take part in the next."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from fedward.errors import StoreError
from fedward.settings.site import STORAGE_KEY
from fedward.store.vault import Vault
from fedward_flare import processes
from tiny_federation import NAMES, Federation, training_job

pytestmark = pytest.mark.federation

#: How far the site has come, by what it has written down.
PHASES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "set up": lambda state: state["channel"] is not None,
    "dealt": lambda state: state["agreement"] is not None,
    "masked": lambda state: bool(state["uses"]),
    "voted": lambda state: any(use["statement"] for use in state["uses"].values()),
    "opened": lambda state: any(use["opened"] for use in state["uses"].values()),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_job_process_that_is_killed_in_any_phase_costs_no_round(federation: Federation, phase: str) -> None:
    job_id = federation.submit(training_job(steps=4, rounds=3, mode="secure-sum"))
    kill_job_process(federation, "south", when=PHASES[phase], job_id=job_id)
    record = federation.session.watch(job_id, timeout_s=200).record
    assert (record.status, record.code) == ("completed", None)
    assert [entry.number for entry in record.rounds] == [1, 2, 3]
    assert sorted(record.rounds[-1].weights) == sorted(NAMES), "it is back by the last round"
    assert all(len(entry.weights) >= 3 for entry in record.rounds)


def kill_job_process(federation: Federation, site: str, *, when: Callable[[dict[str, Any]], bool], job_id: str) -> None:
    hospital = federation.workdir.hospital(site)
    path = hospital / "state" / "jobs" / job_id / "sum.state"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(StoreError):
            if when(json.loads(Vault.open(hospital / STORAGE_KEY).read(path))):
                for process in processes.running(federation.workdir.state().mark):
                    with contextlib.suppress(psutil.Error):
                        command = process.cmdline()
                        if "nvflare.private.fed.app.client.worker_process" in command and site in command:
                            process.kill()
                            return
        time.sleep(0.002)
    raise AssertionError(f"{site} never came so far")
