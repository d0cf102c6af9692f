"""A controller whose hospitals sum under encryption in this process: each of them is a function of what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.evaluation.outcome import EvaluationOutcome
from fedward.federation.record import JobRecord
from fedward.site_ckks import SiteCkks
from fedward.site_sum import SiteSum
from fedward_flare import sum_exchange, tasks
from fedward_flare.controllers import JobController
from fedward_flare.evaluation_controller import EvaluationController
from fedward_flare.results import EVALUATION, RESULT
from fedward_flare.workdir import Workdir
from stub_communicator import Site, StubCommunicator


def answer_of(part: SiteSum | SiteCkks, task: str, message: Shareable) -> Shareable | None:
    """Answer what a hospital is asked beside its vector: set-up, shares and vote; None where it is something else."""
    if task == tasks.SET_UP_TASK:
        attempt, first = sum_exchange.unpack_begin(message)
        return sum_exchange.pack_set_up(part.begin(attempt=attempt, first_round=first))
    if task == tasks.SHARES_TASK:
        return sum_exchange.pack_boxes(part.deal(sum_exchange.unpack_set_ups(message)[1]))
    if task not in (tasks.VOTE_TOPIC, tasks.OPEN_TOPIC):
        return None
    assert isinstance(part, SiteSum)
    number, survivors, votes = sum_exchange.unpack_survivors(message)
    if task == tasks.VOTE_TOPIC:
        return sum_exchange.pack_vote(part.vote(number, survivors))
    return sum_exchange.pack_opened(part.open(number, survivors, votes))


class Engine:
    """Brings direct messages to the hospitals."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self.sites = sites

    def register_app_command(self, *_: Any) -> None:
        pass

    def new_context(self) -> FLContext:
        return FLContext()

    def send_aux_request(self, targets: list[str], topic: str, request: Shareable, *_: Any, **__: Any) -> Any:
        (site,) = targets
        answer = self.sites[site](topic, request)
        return {} if answer is None else {site: answer}


def serve(folder: Path, workdir: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the controllers find folder and root certificate of a server's process."""
    certificate = workdir.kit("server") / "startup" / "rootCA.pem"
    monkeypatch.setattr("fedward_flare.controllers.run_folder", lambda _: folder)
    monkeypatch.setattr("fedward_flare.summing_controller.server_folder", lambda _: folder / "server")
    monkeypatch.setattr("fedward_flare.summing_controller.root_certificate", lambda _: certificate)
    monkeypatch.setattr("fedward_flare.controllers._DIRECT_S", 1.0)


def connect(controller: JobController, sites: dict[str, Site]) -> None:
    """Put the hospitals in the place of the engine and its network."""
    controller._engine = Engine(sites)
    controller.communicator = StubCommunicator(sites)
    controller.system_panic = lambda *_: None


def run_job(controller: JobController, folder: Path) -> JobRecord:
    controller.start_controller(FLContext())
    controller.control_flow(Signal(), FLContext())
    return JobRecord.model_validate_json((folder / RESULT / "result.json").read_bytes())


@dataclass
class EvaluationRun:
    """One evaluation, the stand-ins of its hospitals by name, and what came of it."""

    sites: dict[str, Any]
    controller: EvaluationController
    folder: Path

    def go(self) -> JobRecord:
        return run_job(self.controller, self.folder)

    def outcome(self) -> EvaluationOutcome:
        return EvaluationOutcome.model_validate_json((self.folder / RESULT / EVALUATION).read_bytes())
