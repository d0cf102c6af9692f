"""What the encrypted sum costs: beside the plain exchange, beside NVFLARE's homomorphic recipe, and by itself.

Three sites, 4.8 M parameters: the same job runs through the real controller and executor, with trainers that return at
once, in plain mode and as encrypted sum. Where TenSEAL (the extra ``ckks``) is installed it runs in the mode ``ckks``
too, and then the stock homomorphic recipe in a throw-away federation. Last the protocol without the engine, by number
of sites and of parameters.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import homomorphic
import torch
from engine import bytes_per_round, ours, seconds_per_round

# The hospitals of the protocol's own tests.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import exchange_protocol

#: A round takes ten seconds; the first does not count.
CKKS_ROUNDS = 4


def beside_plain(folder: Path) -> dict[str, float]:
    plain, secure = ours(folder, "plain"), ours(folder, "secure-sum")
    result = {
        "plain_s_per_round": seconds_per_round(plain),
        "secure_s_per_round": seconds_per_round(secure),
        "plain_bytes_per_round": bytes_per_round(plain),
        "secure_bytes_per_round": bytes_per_round(secure),
    }
    result["time_ratio"] = result["secure_s_per_round"] / result["plain_s_per_round"]
    result["bytes_ratio"] = result["secure_bytes_per_round"] / result["plain_bytes_per_round"]
    return result


def beside_homomorphic(folder: Path, secure: dict[str, float]) -> dict[str, float]:
    if not homomorphic.is_possible():
        print("TenSEAL is not installed (pip install 'fedward[ckks]'): homomorphic encryption is left out")
        return {}
    ckks = ours(folder, "ckks", rounds=CKKS_ROUNDS)
    result = homomorphic.measure(folder)
    result["ckks_s_per_round"] = seconds_per_round(ckks, rounds=CKKS_ROUNDS, warm_up=1)
    result["ckks_bytes_per_round"] = bytes_per_round(ckks, rounds=CKKS_ROUNDS, warm_up=1)
    for unit, ratio in (("s_per_round", "homomorphic_time_ratio"), ("bytes_per_round", "homomorphic_bytes_ratio")):
        result[ratio] = result[f"homomorphic_{unit}"] / secure[f"secure_{unit}"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="not used: the trainers look at no data")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the protocol's own work")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        result: dict[str, Any] = beside_plain(Path(name))
        result |= beside_homomorphic(Path(name), result)
    series = exchange_protocol.measure_all()
    result |= series
    if arguments.plot is not None:
        exchange_protocol.plot(series, arguments.plot)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
