"""The networks on real data, dealt to four unequal hospitals: federated against pooled and local-only training.

AdrenalMNIST3D (is this adrenal gland's shape that of hyperplasia?), PneumoniaMNIST (does this chest film show
pneumonia?) and the hippocampus (see hippocampus.py). The data folder holds medmnist/ and hippocampus_msd/. A film is
a scan of one slice here; fedward's settings know no X-rays, so the films go in under the modality CT.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import federated_classification
import federated_segmentation
import hippocampus
import numpy as np
from federated_classification import Images
from federated_segmentation import ROOT


def adrenal(data: Path, folder: Path) -> dict[str, Any]:
    arrays, labels = read(data / "medmnist" / "adrenalmnist3d_64.npz")
    images = Images(arrays, ["hyperplasia" if label else "normal" for label in labels])
    return federated_classification.run(images, ROOT / "jobs" / "adrenal_classification.toml", folder)


def pneumonia(data: Path, folder: Path) -> dict[str, Any]:
    arrays, labels = read(data / "medmnist" / "pneumoniamnist.npz")
    images = Images(arrays[:, None], ["pneumonia" if label else "normal" for label in labels])
    return federated_classification.run(images, ROOT / "jobs" / "pneumonia_classification.toml", folder)


def hippocampi(data: Path, folder: Path) -> dict[str, Any]:
    return federated_segmentation.run(hippocampus.benchmark_of(data / "hippocampus_msd"), folder)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Give the images and labels of a MedMNIST file, its training and validation part together."""
    with np.load(path) as parts:
        arrays, labels = (
            np.concatenate([parts[f"{part}_{kind}"] for part in ("train", "val")]) for kind in ("images", "labels")
        )
    return arrays, labels[:, 0]


SETS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "adrenal": adrenal,
    "pneumonia": pneumonia,
    "hippocampus": hippocampi,
}


def line(name: str, result: dict[str, Any]) -> str:
    measure = "dice" if name == "hippocampus" else "auc"
    parts = [f"{kind} {result[kind][measure]:.3f}" for kind in ("pooled", "federated")]
    parts += [f"{site} alone {alone[measure]:.3f}" for site, alone in result["local"].items()]
    return f"{name} ({measure}): {', '.join(parts)}; {result['seconds']:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=list(SETS))
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"there is no folder {arguments.data}; name the folder of the data sets with --data")
    results = {}
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = SETS[name](arguments.data, Path(folder))
        print(line(name, results[name]), flush=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
