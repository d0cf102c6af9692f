"""What the federations of ``engine.py`` import in their own processes: the network, and a site that returns at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil
import torch

from fedward.federation.checks import check_update
from fedward.federation.quantise import Quantiser
from fedward.federation.secure_job import quantiser_of
from fedward.federation.secure_messages import Box, Opened, Receipt, SetUp, Vote
from fedward.hospital import Evaluated, Hospital, RoundTask, TrainedRound
from fedward.identity.document import JobDocument, SignedJob
from fedward.models.networks import build
from fedward.models.weights import layout_of
from fedward.privacy.sealed import Answer
from fedward.settings.job import Segmentation, UNet3D
from fedward.site_ckks import SiteCkks
from fedward.site_sum import SiteSum

#: 4.8 M parameters in 97 arrays.
NETWORK = UNet3D(name="unet3d", channels=(16, 32, 64, 128, 256), residual_units=2)
TASK = Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice")

#: A folder: each site appends to its file there when a round's model has reached its trainer: the time, and the bytes
#: that this machine has sent to itself by then.
TIMES = "ENGINE_BENCH_TIMES"


def note_time(site: str) -> None:
    with (Path(os.environ[TIMES]) / site).open("a") as file:
        file.write(f"{time.time()} {psutil.net_io_counters(pernic=True)['lo'].bytes_sent}\n")


class Network(torch.nn.Module):
    """The same network as a class without arguments, which the stock recipe asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build(NETWORK, task=TASK)


class InstantHospital(Hospital):
    """Does all that a hospital does but looking at data: its update is there at once."""

    @cached_property
    def update(self) -> np.ndarray:
        size = layout_of(build(NETWORK, task=TASK)).size
        return np.random.default_rng(0).normal(0, 1e-3, size).astype(np.float32)

    @cached_property
    def quantiser(self) -> Quantiser:
        return quantiser_of(self.job, size=self.update.size, sites=len(self.document.sites))

    def accept(self, signed: SignedJob) -> JobDocument:
        self.document = super().accept(signed)
        self.job = self.document.job
        kind = SiteCkks if self.job.exchange.mode == "ckks" else SiteSum
        self.sum = kind(self.site_file, self.document, self.job, self.quantiser, self.site.state / "sum", self.clock)
        return self.document

    def train_round(self, task: RoundTask, *, should_stop: Callable[[], bool]) -> TrainedRound:
        note_time(self.site.name)
        check_update(self.update, size=task.weights.size, max_norm=self.job.exchange.max_update_norm)
        metrics = {"validation_score": 0.5}
        if self.job.exchange.mode == "plain":
            return TrainedRound(update=self.update, weight=10, metrics=metrics)
        digest = hashlib.sha256(task.weights.tobytes()).hexdigest()
        answer = Answer(self.update, 10, {})
        masked = self.sum.masked(task.number, answer, model_sha256=digest, boxes=task.boxes)
        return TrainedRound(update=masked, weight=10, metrics=metrics)

    def evaluate(self, task: RoundTask, *, should_stop: Callable[[], bool]) -> Evaluated:
        return Evaluated(weight=10, metrics={"validation_score": 0.5})

    def begin_sum(self, document: JobDocument, *, attempt: int, first_round: int, should_stop: object) -> SetUp:
        return self.sum.begin(attempt=attempt, first_round=first_round)

    def deal_shares(self, document: JobDocument, number: int, set_ups: Sequence[SetUp]) -> tuple[Box, ...]:
        return self.sum.deal(set_ups)

    def sign_survivors(self, document: JobDocument, number: int, survivors: Sequence[Receipt]) -> Vote:
        return self.sum.vote(number, survivors)

    def open_shares(
        self, document: JobDocument, number: int, survivors: Sequence[Receipt], votes: Sequence[Vote]
    ) -> Opened:
        return self.sum.open(number, survivors, votes)

    def decrypt_sum(
        self, document: JobDocument, number: int, receipts: Sequence[Receipt], blocks: Sequence[bytes]
    ) -> np.ndarray:
        return self.sum.decrypt(number, receipts, blocks)
