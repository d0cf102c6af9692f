"""NVFLARE's stock homomorphic recipe with the engine bench's network, in a throw-away federation."""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from engine import bytes_per_round, seconds_per_round, stock, stock_arguments

#: A round takes most of a minute; the first does not count.
ROUNDS = 3
WARM_UP = 1


def is_possible() -> bool:
    """Whether TenSEAL, an optional extra, is installed."""
    return find_spec("tenseal") is not None


def measure(folder: Path) -> dict[str, float]:
    """Give the stock homomorphic recipe's seconds and bytes a round."""
    from nvflare.app_opt.pt.recipes.fedavg_he import FedAvgRecipeWithHE

    times = stock(
        folder,
        FedAvgRecipeWithHE(**stock_arguments(ROUNDS)),
        rounds=ROUNDS,
        builders=[{"path": "nvflare.lighter.impl.he.HEBuilder"}],
    )
    return {
        "homomorphic_s_per_round": seconds_per_round(times, rounds=ROUNDS, warm_up=WARM_UP),
        "homomorphic_bytes_per_round": bytes_per_round(times, rounds=ROUNDS, warm_up=WARM_UP),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
