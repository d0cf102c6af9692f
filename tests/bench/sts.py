"""Soft-tissue sarcomas in T1 MR from three makers' scanners, one maker a hospital: a federation that is really unlike.

Federated against pooled and local-only training with the same steps, on the same held-out patients; the federation is
the real one, with NVFLARE. The data folder holds cases.csv and the cases' *_image.nii.gz and *_mask.nii.gz.
"""

from __future__ import annotations

import csv
from pathlib import Path

from federated_segmentation import ROOT, Benchmark, main


def benchmark_of(data: Path) -> Benchmark:
    with (data / "cases.csv").open(encoding="utf-8", newline="") as file:
        vendors = {row["case"]: row["vendor"].split()[0].lower() for row in csv.DictReader(file)}
    present = {case: vendor for case, vendor in sorted(vendors.items()) if (data / f"{case}_image.nii.gz").is_file()}
    dealt = {
        vendor: [
            (data / f"{case}_image.nii.gz", data / f"{case}_mask.nii.gz") for case in present if present[case] == vendor
        ]
        for vendor in sorted(set(present.values()))
    }
    return Benchmark(
        job=ROOT / "jobs" / "sts_segmentation.toml",
        cases=dealt,
        classes={"tumour": 1},
        validation=0.0,
        test=0.3,
        min_patients=1,
    )


if __name__ == "__main__":
    main(__doc__, "sts_mr_t1_3vendor", benchmark_of)
