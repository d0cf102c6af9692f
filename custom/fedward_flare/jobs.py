"""From a job file to an NVFLARE job without code: read, check, sign, write the folder.

The folder holds JSON alone. The signed document is the single argument of our controller on the server and of our
executor at the sites; both read the plan from it, and each site verifies it itself.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedward.errors import FederationError
from fedward.identity.document import SignedJob, sign_job
from fedward.settings.job import Job
from fedward.settings.read import read_settings
from fedward_flare import exchange
from fedward_flare.signed import encode_signed_job
from fedward_flare.workdir import Workdir

#: The server's application and the sites'; a publishing job's release lies in the server's alone.
SERVER_APP, SITE_APP = "server_app", "site_app"
RELEASE = "release"
RELEASE_PARTS = ("model.safetensors", "passport.json", "passport.sig")

#: How often (s) a site asks for its next task: at NVFLARE's 2 s most of a short round is sleep.
_ASK_INTERVAL_S = 0.05


@dataclass(frozen=True)
class _Components:
    controller: str
    executor: str
    tasks: tuple[str, ...]


_COMPONENTS = {
    "train": _Components(
        controller="fedward_flare.training_controller.TrainController",
        executor="fedward_flare.executors.TrainExecutor",
        tasks=(exchange.TRAIN_TASK, exchange.EVALUATE_TASK),
    ),
    "publish": _Components(
        controller="fedward_flare.controllers.PublishController",
        executor="fedward_flare.executors.PublishExecutor",
        tasks=(exchange.PUBLISH_TASK,),
    ),
    "infer": _Components(
        controller="fedward_flare.controllers.InferenceController",
        executor="fedward_flare.executors.InferenceExecutor",
        tasks=(exchange.INFER_TASK,),
    ),
}


def read_job(path: Path) -> Job:
    """Read and validate a job file whole.

    Raises:
        SettingsError: the file is missing or has faults, all of them in ``detail``.
    """
    job: Job = read_settings(path, Job)
    return job
