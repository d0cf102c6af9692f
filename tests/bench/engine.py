"""The engine's overhead: seconds a round with a 4.8 M-parameter network, three sites, and trainers that return at once.

Ours runs through the real controller and executor: messages, checks, FedAvg, record and curves. The stock recipe
carries a script and stock classes, which our kits refuse, so it runs in a second, throw-away federation with NVFLARE's
own policy. One after the other, on the same machine; the first rounds, with their imports, do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from engine_parts import NETWORK, TASK, TIMES, Network
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.lighter.prov_utils import prepare_builders
from nvflare.lighter.provision import prepare_project
from nvflare.lighter.provisioner import Provisioner
from nvflare.recipe.spec import Recipe

from fedward.errors import FederationError
from fedward.randomness import Secret
from fedward.settings.federation import FederationSettings, HospitalEntry, Project
from fedward.settings.job import Exchange, ExchangeMode, Input, Sites, Training, TrainingJob, Window
from fedward_flare import poc, processes
from fedward_flare.jobs import prepare
from fedward_flare.kits import participants_of
from fedward_flare.quiet import quietly
from fedward_flare.services import SERVER, command_of, common_environment
from fedward_flare.session import Session, connect
from fedward_flare.workdir import FederationState, Workdir, claimed

SITES = ("north", "east", "south")
ROUNDS = 12
WARM_UP = 3
HERE = Path(__file__).parent

JOB = TrainingJob(
    kind="train",
    name="engine",
    sites=Sites(minimum=3, deadline_s=120),
    input=Input(modality="CT", spacing_mm=(2, 2, 2), intensity=Window(kind="window", low=-1000, high=400)),
    task=TASK,
    network=NETWORK,
    training=Training(rounds=ROUNDS, steps_per_round=1, batch_size=1, patch_size=(16, 16, 16), learning_rate=1e-3),
    exchange=Exchange(mode="plain", max_update_norm=1e3),
)
#: How the engine bench's job is carried; ``exchange.py`` takes others.
MODE: ExchangeMode = "plain"

SITE_FILE = """
name = "{name}"
organisation = "{name}"
data = [{{ kind = "dicom", path = "dicom" }}]
[bounds]
exchange_modes = ["plain", "secure-sum", "ckks"]
[privacy]
allow_non_private = true
"""


def federation(folder: Path) -> FederationSettings:
    for name in SITES:
        (folder / f"{name}.toml").write_text(SITE_FILE.format(name=name))
    hospitals = tuple(HospitalEntry(name=n, organisation=n, site_file=folder / f"{n}.toml") for n in SITES)
    return FederationSettings(federation=Project(project="engine_bench"), hospital=hospitals)


def environment(times: Path, *folders: Path) -> dict[str, str]:
    """Give what the processes are told: the folder of times, and where they find modules, in ``folders`` first."""
    times.mkdir()
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), str(HERE), *sys.path]), TIMES: str(times)}


def ours(folder: Path, mode: ExchangeMode = MODE, *, rounds: int = ROUNDS) -> Path:
    """Run our rounds; give the folder of times."""
    folder = folder / mode
    folder.mkdir()
    times = folder / "ours_times"
    options = poc.StartOptions(environment=environment(times, HERE / "instant_sites"))
    with claimed(folder / "ours") as workdir, poc.running(federation(folder), workdir, options=options) as session:
        training = JOB.training.model_copy(update={"rounds": rounds})
        job = JOB.model_copy(update={"exchange": Exchange(mode=mode, max_update_norm=1e3), "training": training})
        prepared = prepare(job, workdir)
        finished = session.watch(session.submit(prepared), timeout_s=300)
        if finished.record.status != "completed" or any(r.failures for r in finished.record.rounds):
            raise SystemExit(f"the federation did not do its rounds: {finished.record}")
    return times


def stock(
    folder: Path,
    recipe: Recipe | None = None,
    *,
    rounds: int = ROUNDS,
    builders: Sequence[Mapping[str, str]] = (),
) -> Path:
    """Run a stock recipe's rounds in a federation that ``builders`` add to; give the folder of times."""
    times = folder / "stock_times"
    settings = federation(folder)
    with claimed(folder / "stock") as workdir:
        mark = Secret().token()
        try:
            provision_stock(settings, workdir, mark, builders)
            started = start_stock(settings, workdir, mark, environment(times))
            workdir.write_state(workdir.state().model_copy(update={"processes": started}))
            with connect(workdir) as session:
                run_stock(session, folder, recipe or fedavg(), is_done=lambda: _rounds_seen(times) >= rounds)
        finally:
            processes.end(mark, grace_s=5)
    return times


def provision_stock(
    settings: FederationSettings, workdir: Workdir, mark: str, builders: Sequence[Mapping[str, str]]
) -> None:
    port = poc.choose_port(None)
    project = settings.federation
    workdir.write_state(
        FederationState(
            project=project.project,
            coordinator=project.coordinator,
            operator=project.operator,
            hospitals=settings.names,
            port=port,
            mark=mark,
        )
    )
    lighter = "nvflare.lighter.impl"
    recipe = {
        "api_version": 3,
        "name": project.project,
        "participants": participants_of(settings, port),
        "builders": [
            {"path": f"{lighter}.workspace.WorkspaceBuilder", "args": {"template_file": ["master_template.yml"]}},
            {"path": f"{lighter}.static_file.StaticFileBuilder", "args": {"config_folder": "config"}},
            {"path": f"{lighter}.cert.CertBuilder"},
            *builders,
            {"path": f"{lighter}.signature.SignatureBuilder"},
        ],
    }
    with quietly():
        Provisioner(str(workdir.kits), prepare_builders(recipe)).provision(prepare_project(recipe))
    resources = workdir.kit("server") / "local" / "resources.json.default"
    resources.write_text(resources.read_text().replace("/tmp/nvflare", str(workdir.root / "storage")))


def start_stock(
    settings: FederationSettings, workdir: Workdir, mark: str, environment: Mapping[str, str]
) -> tuple[processes.OwnProcess, ...]:
    """Start kits that lack our locks, which our own start refuses."""
    common = {**common_environment(workdir, mark=mark, sites=len(SITES)), **environment}
    organisations = {h.name: h.organisation for h in settings.hospital} | {SERVER: settings.federation.organisation}
    started = []
    for name in (SERVER, *SITES):
        command = command_of(workdir.kit(name), name, organisation=organisations[name])
        started.append(processes.start(name, command, environment=common, log=workdir.logs / f"{name}.log"))
    return tuple(started)


def fedavg() -> Recipe:
    return FedAvgRecipe(**stock_arguments(ROUNDS))


def stock_arguments(rounds: int) -> dict[str, Any]:
    """Give what any stock recipe is asked for here."""
    script = str(HERE / "engine_stock_trainer.py")
    return {
        "name": "stock",
        "model": Network(),
        "min_clients": len(SITES),
        "num_rounds": rounds,
        "train_script": script,
    }


def run_stock(session: Session, folder: Path, recipe: Recipe, *, is_done: Callable[[], bool]) -> None:
    with quietly():
        recipe.export(str(folder / "stock_job"))
    wait_for(lambda: len(session.connected_sites()) == len(SITES), timeout_s=60)
    session.submit_folder(folder / "stock_job" / "stock")
    # Not asked of the server: under homomorphic encryption it has no time to answer.
    wait_for(is_done, timeout_s=600)


def _rounds_seen(times: Path) -> int:
    seen = [len(file.read_text().splitlines()) for file in times.iterdir()]
    return min(seen) if len(seen) == len(SITES) else 0


def wait_for(condition: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise FederationError("start_failed", f"waited {timeout_s} s in vain")
        time.sleep(0.5)


def seconds_per_round(times: Path, *, rounds: int = ROUNDS, warm_up: int = WARM_UP) -> float:
    """Give the mean time from one round's model at a site's trainer to the next one's, over sites and rounds."""
    return _mean_gap(times, column=0, rounds=rounds, warm_up=warm_up)


def bytes_per_round(times: Path, *, rounds: int = ROUNDS, warm_up: int = WARM_UP) -> float:
    """Give the mean of all bytes that the federation's processes send each other in a round."""
    return _mean_gap(times, column=1, rounds=rounds, warm_up=warm_up)


def _mean_gap(times: Path, *, column: int, rounds: int, warm_up: int) -> float:
    gaps = []
    for file in times.iterdir():
        arrived = [float(line.split()[column]) for line in file.read_text().splitlines()]
        if len(arrived) != rounds:
            raise SystemExit(f"{file.name} saw {len(arrived)} of {rounds} rounds")
        gaps += [after - before for before, after in zip(arrived[warm_up:], arrived[warm_up + 1 :], strict=False)]
    return statistics.mean(gaps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="not used: the trainers look at no data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        result = {
            "ours_s_per_round": seconds_per_round(ours(Path(name))),
            "stock_s_per_round": seconds_per_round(stock(Path(name))),
        }
    result["ratio"] = result["ours_s_per_round"] / result["stock_s_per_round"]
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
