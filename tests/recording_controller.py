"""The server's controller with one thing more: it writes down every vector that it receives."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fedward.federation.round import Contribution, Failure
from fedward.federation.secure_messages import Masked
from fedward.hospital import TrainedRound
from fedward_flare.training_controller import TrainController

#: Where the vectors go.
RECORDED = "RECORDED_VECTORS"


class RecordingController(TrainController):
    """Records, and changes nothing."""

    def _contribution(self, site: str, trained: TrainedRound | Failure) -> Contribution | Failure:
        if isinstance(trained, TrainedRound) and isinstance(trained.update, Masked):
            number = trained.update.receipt.round_number
            np.save(Path(os.environ[RECORDED]) / f"{site}-{number}.npy", trained.update.vector)
        return super()._contribution(site, trained)
