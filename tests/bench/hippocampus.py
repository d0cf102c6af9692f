"""Real MR volumes of the hippocampus (Medical Segmentation Decathlon, task 4) dealt to four unequal hospitals.

Federated against pooled and local-only training with the same steps, on the same held-out patients; the federation is
the real one, with NVFLARE. The data folder holds images/ and labels/ with the same file names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from federated_segmentation import ROOT, Benchmark, main

#: The hospitals and their shares of the patients.
SHARES = {"north": 0.40, "east": 0.28, "south": 0.20, "west": 0.12}


def benchmark_of(data: Path) -> Benchmark:
    images = sorted((data / "images").glob("*.nii.gz"))
    order = np.random.default_rng(0).permutation(len(images))
    ends = np.round(np.cumsum([0, *SHARES.values()]) * len(images)).astype(int)
    dealt = {
        name: [images[index] for index in sorted(order[start:stop])]
        for name, start, stop in zip(SHARES, ends[:-1], ends[1:], strict=True)
    }
    return Benchmark(
        job=ROOT / "jobs" / "hippocampus_segmentation.toml",
        cases={name: [(path, data / "labels" / path.name) for path in paths] for name, paths in dealt.items()},
        classes={"anterior": 1, "posterior": 2},
        validation=0.06,
        test=0.2,
    )


if __name__ == "__main__":
    main(__doc__, "hippocampus_msd", benchmark_of)
