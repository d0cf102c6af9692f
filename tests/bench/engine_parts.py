"""What the federations of ``engine.py`` import in their own processes: the network, and a site that returns at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from fedward.federation.checks import check_update
from fedward.hospital import Evaluated, RoundTask, TrainedRound
from fedward.identity.document import JobDocument, SignedJob, verify_job
from fedward.models.networks import build
from fedward.settings.job import Segmentation, UNet3D
from fedward.settings.site import SiteSettings, read_site_settings, require_identity
from fedward_flare.executors import TrainExecutor

#: 4.8 M parameters in 97 arrays.
NETWORK = UNet3D(name="unet3d", channels=(16, 32, 64, 128, 256), residual_units=2)
TASK = Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice")

#: A file that each site appends the time to when a round's model has reached its trainer.
TIMES = "ENGINE_BENCH_TIMES"


def note_time(site: str) -> None:
    with (Path(os.environ[TIMES]) / site).open("a") as file:
        file.write(f"{time.time()}\n")


class Network(torch.nn.Module):
    """The same network as a class without arguments, which the stock recipe asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build(NETWORK, task=TASK)


class InstantHospital:
    """Verifies the job and checks its own update as a hospital does, and trains in no time."""

    def __init__(self, site: SiteSettings) -> None:
        self._site = site
        self._update: np.ndarray | None = None

    def accept(self, signed: SignedJob) -> JobDocument:
        return verify_job(signed, require_identity(self._site), now=datetime.now(UTC))

    def train_round(self, task: RoundTask, *, should_stop: Callable[[], bool]) -> TrainedRound:
        note_time(self._site.name)
        if self._update is None:
            self._update = np.random.default_rng(0).normal(0, 1e-3, task.weights.size).astype(np.float32)
        check_update(self._update, size=task.weights.size, max_norm=task.document.job.exchange.max_update_norm)
        return TrainedRound(update=self._update, weight=10, metrics={"validation_score": 0.5})

    def evaluate(self, task: RoundTask, *, should_stop: Callable[[], bool]) -> Evaluated:
        return Evaluated(weight=10, metrics={"validation_score": 0.5})


class InstantExecutor(TrainExecutor):
    """Our executor with nothing changed but the hospital behind it."""

    def _open_hospital(self) -> InstantHospital:
        return InstantHospital(read_site_settings(Path(os.environ["FEDWARD_SITE_FILE"])))
