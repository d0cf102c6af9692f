"""What the encrypted sum costs beside the plain exchange: seconds and bytes a round, three sites, 4.8 M parameters.

The same job runs twice through the real controller and executor, with trainers that return at once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from engine import bytes_per_round, ours, seconds_per_round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="not used: the trainers look at no data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        plain, secure = ours(Path(name), "plain"), ours(Path(name), "secure-sum")
        result = {
            "plain_s_per_round": seconds_per_round(plain),
            "secure_s_per_round": seconds_per_round(secure),
            "plain_bytes_per_round": bytes_per_round(plain),
            "secure_bytes_per_round": bytes_per_round(secure),
        }
    result["time_ratio"] = result["secure_s_per_round"] / result["plain_s_per_round"]
    result["bytes_ratio"] = result["secure_bytes_per_round"] / result["plain_bytes_per_round"]
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
