"""What the engine reads of a job: one controller on the server, one executor at the sites, the signed job as argument.

Both sides of a federation use this text: the coordinator's machine writes it, and every site compares what arrives
with it, so that a job cannot configure anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedward_flare import tasks

#: The configuration files of the server's application and of the sites'.
SERVER_CONFIG, SITE_CONFIG = "config_fed_server.json", "config_fed_client.json"

#: How often (s) a site asks for its next task: at NVFLARE's 2 s most of a short round is sleep.
_ASK_INTERVAL_S = 0.05


@dataclass(frozen=True)
class Components:
    """The classes of one kind of job, by their full names, and the tasks that the executor answers."""

    controller: str
    executor: str
    tasks: tuple[str, ...]


_SUM_TASKS = (tasks.SET_UP_TASK, tasks.SHARES_TASK, tasks.DECRYPT_TASK, tasks.TOTAL_TASK)

COMPONENTS = {
    "train": Components(
        controller="fedward_flare.training_controller.TrainController",
        executor="fedward_flare.executors.TrainExecutor",
        tasks=(tasks.TRAIN_TASK, tasks.EVALUATE_TASK, *_SUM_TASKS),
    ),
    "gate": Components(
        controller="fedward_flare.once_controllers.GateController",
        executor="fedward_flare.executors.GateExecutor",
        tasks=(tasks.GATE_TASK,),
    ),
    "publish": Components(
        controller="fedward_flare.once_controllers.PublishController",
        executor="fedward_flare.executors.PublishExecutor",
        tasks=(tasks.PUBLISH_TASK,),
    ),
    "infer": Components(
        controller="fedward_flare.once_controllers.InferenceController",
        executor="fedward_flare.executors.InferenceExecutor",
        tasks=(tasks.INFER_TASK,),
    ),
    "evaluate": Components(
        controller="fedward_flare.evaluation_controller.EvaluationController",
        executor="fedward_flare.executors.EvaluationExecutor",
        tasks=(tasks.AGREE_TASK, tasks.GIVE_TASK, tasks.COUNT_TASK, *_SUM_TASKS),
    ),
}

#: The only classes that a job may name, one by one: a prefix would also reach what our modules import.
SERVER_CLASSES = tuple(sorted(components.controller for components in COMPONENTS.values()))
SITE_CLASSES = tuple(sorted(components.executor for components in COMPONENTS.values()))


def server_config(kind: str, signed_job: str) -> dict[str, Any]:
    """Give the configuration of the server's application for a job of ``kind``."""
    workflow = {"id": "fedward", "path": COMPONENTS[kind].controller, "args": {"signed_job": signed_job}}
    return {
        "format_version": 2,
        "server": {"task_request_interval": _ASK_INTERVAL_S},
        "workflows": [workflow],
        "components": [],
    }


def site_config(kind: str, signed_job: str) -> dict[str, Any]:
    """Give the configuration of the sites' application for a job of ``kind``."""
    executor = {"path": COMPONENTS[kind].executor, "args": {"signed_job": signed_job}}
    return {
        "format_version": 2,
        "default_task_fetch_interval": _ASK_INTERVAL_S,
        "executors": [{"tasks": list(COMPONENTS[kind].tasks), "executor": executor}],
        "components": [],
    }
