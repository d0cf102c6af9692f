"""Whether federated training collapses where hospitals are very unlike, for each algorithm.

Four hospitals of 110, 34, 12 and 11 patients (FLamby's lung CT by scanner maker has 661, 205, 74 and 69), each with its
own scanner; the second one has no positive: not a lesion in any of its training labels. The volumes are drawn: lung
with vessels, and lesions of 8 to 16 mm, solid or ground-glass. All models take the same optimiser steps and are scored
on the same held-out volumes of every hospital, which show lesions everywhere. The federation is this package's own
functions in one process: what each hospital computes in a round, and what the server does with it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from fedward.dicom.volume import Label, Verdict, Volume
from fedward.evaluation.cases import score_cases
from fedward.evaluation.local_only import prepare_worker
from fedward.evaluation.summary import CaseScore, summarise
from fedward.federation.algorithms import RoundFacts, server_of
from fedward.federation.checks import public_weight
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.runtime import Runtime
from fedward.randomness import Seeded
from fedward.settings.job import TrainingJob
from fedward.settings.read import parse_settings
from fedward.settings.site import SiteSettings
from fedward.training.local import train
from fedward.training.optimiser import local_distance
from fedward.training.own import end_of, personal, start_of

#: Voxels of a volume (slice, row, column), and their size (mm).
SHAPE, SPACING_MM = (28, 48, 48), 2.0

#: A hospital that scores this much below its own local model would have done better without the federation.
MAY_LOSE = 0.02
#: The best algorithm must reach this share of the pooled model's Dice.
MUST_REACH = 0.9


@dataclass(frozen=True)
class Scanner:
    """What makes one hospital's images unlike another's: noise (HU), point spread (voxels), an offset (HU), lesions."""

    noise: float
    blur: float
    offset: float
    ground_glass: float
    lesion_mm: tuple[float, float]


@dataclass(frozen=True)
class Unlike:
    """A hospital."""

    patients: int
    scanner: Scanner
    has_positives: bool = True


HOSPITALS = {
    "north": Unlike(110, Scanner(20, 0.6, 0, 0.1, (8, 16))),
    "east": Unlike(34, Scanner(50, 0.4, 20, 0.3, (8, 14)), has_positives=False),
    "south": Unlike(12, Scanner(15, 1.1, -40, 0.6, (9, 16))),
    "west": Unlike(11, Scanner(40, 0.5, 40, 0.2, (8, 14))),
}
HELD_OUT = 16

JOB = {
    "kind": "train",
    "name": "collapse",
    "input": {
        "modality": "CT",
        "spacing_mm": [SPACING_MM] * 3,
        "intensity": {"kind": "window", "low": -1000, "high": 300},
    },
    "task": {"kind": "segmentation", "classes": ["lesion"], "measure": "dice"},
    "network": {"name": "unet3d", "channels": [8, 16, 32], "residual_units": 0},
    "training": {
        "rounds": 40,
        "steps_per_round": 40,
        "batch_size": 8,
        "patch_size": [16, 16, 16],
        "positive_share": 0.5,
        "learning_rate": 6e-3,
        "warmup_steps": 20,
        "seed": 1,
    },
    "exchange": {"mode": "plain", "max_update_norm": 1000.0},
}

_DESCENT = {"optimiser": "sgd", "learning_rate": 0.5, "max_gradient_norm": 1.0}
_EQUAL = {"weight_cap": 10}

#: By name: what each changes of the job's tables. SCAFFOLD must descend plainly, so it stands beside FedAvg that does.
FEDERATED: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "fedavg": {},
    "fedprox": {"algorithm": {"name": "fedprox", "proximal": 0.1}},
    "fedadam": {"algorithm": {"name": "fedadam", "server_learning_rate": 0.02}},
    "fedyogi": {"algorithm": {"name": "fedyogi", "server_learning_rate": 0.02}},
    "fedbn": {"algorithm": {"name": "fedbn"}},
    "fedavg, plain descent": {"training": _DESCENT},
    "scaffold": {"algorithm": {"name": "scaffold"}, "training": _DESCENT},
    "median": {"algorithm": {"name": "median"}},
    "fedavg, equal weights": {"exchange": _EQUAL},
    "fedbn, equal weights": {"algorithm": {"name": "fedbn"}, "exchange": _EQUAL},
}


@dataclass(frozen=True, eq=False)
class Study:
    """A drawn volume with its label; the same name gives the same one."""

    patient_key: str
    scanner: Scanner
    lesions: int
    modality: str = "CT"
    has_label: bool = True
    files: tuple[Path, ...] = ()

    @property
    def series_instance_uid(self) -> str:
        return f"1.2.3.{self.patient_key}"

    @property
    def verdict(self) -> Verdict:
        return Verdict(True, "accepted", "", self.series_instance_uid)

    def read(self) -> Volume:
        affine = np.eye(4)
        affine[:3, :3] = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]) * SPACING_MM
        study, series = f"1.2.{self.patient_key}", self.series_instance_uid
        names = {"patient_key": self.patient_key, "study_instance_uid": study, "series_instance_uid": series}
        return Volume(self._drawn()[0], affine, modality="CT", **names)

    def read_label(self, classes: tuple[str, ...], volume: Volume) -> Label:
        return Label(self._drawn()[1], classes)

    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        generator = Seeded(7).generator("volume", self.patient_key)
        points = np.stack(np.meshgrid(*(np.arange(n) * SPACING_MM for n in SHAPE), indexing="ij"), axis=-1)
        image, label = np.full(SHAPE, -830.0), np.zeros(SHAPE, np.uint8)
        for _ in range(7):
            start, way = generator.uniform(0, 1, 3) * np.array(SHAPE) * SPACING_MM, generator.normal(size=3)
            away = points - start
            along = away @ (way / np.linalg.norm(way))
            distance = np.sqrt(np.maximum((away**2).sum(-1) - along**2, 0))
            image[distance <= generator.uniform(1.0, 3.0)] = generator.uniform(-60, 60)
        for _ in range(self.lesions):
            radii = generator.uniform(*self.scanner.lesion_mm) / 2 * generator.uniform(0.8, 1.2, 3)
            centre = generator.uniform(10, np.array(SHAPE) * SPACING_MM - 10)
            lesion = (((points - centre) / radii) ** 2).sum(-1) <= 1
            is_glass = generator.random() < self.scanner.ground_glass
            image[lesion] = np.maximum(
                image[lesion], generator.uniform(-500, -350) if is_glass else generator.uniform(-60, 60)
            )
            label[lesion] = 1
        image = ndimage.gaussian_filter(image, self.scanner.blur) + self.scanner.offset
        return (image + generator.normal(0, self.scanner.noise, SHAPE)).astype(np.float32), label


def studies(name: str, *, held_out: bool) -> Iterator[Study]:
    hospital = HOSPITALS[name]
    for number in range(HELD_OUT if held_out else hospital.patients):
        # Every fourth patient has no lesion, and two in eight have two.
        lesions = (1, 2, 1, 0)[number % 4] if held_out or hospital.has_positives else 0
        yield Study(f"{name}{'-test' if held_out else ''}{number}", hospital.scanner, lesions)


def opened(folder: Path, name: str, found: Iterator[Study]) -> SiteData:
    """Prepare drawn volumes as a hospital prepares its own; all of them are for training."""
    document = {
        "name": name,
        "organisation": "drawn",
        "state": str(folder / name),
        "data": [{"kind": "dicom", "path": str(folder)}],
        "split": {"validation": 0.0, "test": 0.0},
    }
    site = parse_settings(document, SiteSettings, where=name)
    return SiteData.prepare(found, site, job_of({}))


def job_of(changes: Mapping[str, Mapping[str, object]], rounds: int | None = None) -> TrainingJob:
    document = {**JOB, **{table: {**JOB.get(table, {}), **values} for table, values in changes.items()}}
    if rounds:
        document["training"] = {**document["training"], "rounds": rounds}
    return parse_settings(document, TrainingJob, where="collapse")


def data_of(folder: Path) -> dict[str, SiteData]:
    return {name: opened(folder, name, studies(name, held_out=False)) for name in HOSPITALS}


def federated(folder: Path, name: str, rounds: int) -> dict[str, Any]:
    """Train by one algorithm over all hospitals; each is scored with the model that it would run."""
    job, started_s = job_of(FEDERATED[name], rounds), time.monotonic()
    sites, server = data_of(folder), server_of(job.algorithm)
    shares = {site: public_weight(data.patients, cap=job.exchange.weight_cap) for site, data in sites.items()}
    weights = initial_weights(job)
    state, kept, own = server.init(weights), dict.fromkeys(sites), dict.fromkeys(sites)
    for number in range(1, job.training.rounds + 1):
        of_server = state[0] if name == "scaffold" else None
        updates = {}
        for site, data in sites.items():
            begin = start_of(job, weights, own[site], of_server)
            result = train(
                begin.weights,
                data,
                job,
                round_number=number,
                runtime=Runtime(),
                optimiser_state=kept[site],
                correction=begin.correction,
            )
            kept[site] = result.optimiser_state
            updates[site], own[site] = end_of(
                job, begin, result.update, number=number, own=own[site], of_server=of_server
            )
        facts = RoundFacts(local_distance=local_distance(number, job.training))
        weights, state = server.apply(state, weights, server.combine(updates, shares), facts)
    return scored(folder, job, {site: personal(job, weights, own[site]) for site in sites}, started_s)


def alone(folder: Path, name: str, rounds: int) -> dict[str, Any]:
    """Train on one hospital, or on the pool of all."""
    job, started_s = job_of({}, rounds), time.monotonic()
    sites = data_of(folder)
    cases = tuple(case for data in sites.values() for case in data.cases)
    data = sites[name] if name in sites else replace(sites["north"], name="pool", cases=cases)
    weights, state = initial_weights(job), None
    for number in range(1, job.training.rounds + 1):
        result = train(weights, data, job, round_number=number, runtime=Runtime(), optimiser_state=state)
        weights, state = weights + result.update, result.optimiser_state
    return scored(folder, job, dict.fromkeys(sites, weights), started_s)


def scored(folder: Path, job: TrainingJob, models: Mapping[str, np.ndarray], started_s: float) -> dict[str, Any]:
    scores: dict[str, tuple[CaseScore, ...]] = {}
    for site, weights in models.items():
        test = opened(folder, f"{site}-test", studies(site, held_out=True))
        scores[site] = score_cases(weights, test.cases, job, runtime=Runtime())
    whole = summarise([case for cases in scores.values() for case in cases])
    return {
        "dice": whole.score,
        "dice_by_site": {site: summarise(cases).score for site, cases in scores.items()},
        "scans": whole.values,
        "seconds": time.monotonic() - started_s,
    }


def verdict(pooled: Mapping[str, Any], local: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Hold one algorithm against the pool and against each hospital's own local model."""
    gains = {site: dice - local[site]["dice_by_site"][site] for site, dice in found["dice_by_site"].items()}
    share = found["dice"] / pooled["dice"]
    return {
        "share_of_pooled": share,
        "gain_over_local": gains,
        "passes": share >= MUST_REACH and min(gains.values()) >= -MAY_LOSE,
    }


def run(folder: Path, *, workers: int, rounds: int, only: tuple[str, ...]) -> dict[str, Any]:
    started_s = time.monotonic()
    data_of(folder)
    for name in HOSPITALS:
        opened(folder, f"{name}-test", studies(name, held_out=True))
    with multiprocessing.get_context("spawn").Pool(workers, initializer=prepare_worker) as pool:
        models = {name: pool.apply_async(federated, (folder, name, rounds)) for name in only or FEDERATED}
        baselines = {name: pool.apply_async(alone, (folder, name, rounds)) for name in ("pool", *HOSPITALS)}
        references = {name: job.get() for name, job in baselines.items()}
        found = {name: job.get() for name, job in models.items()}
    pooled, local = references.pop("pool"), references
    algorithms = {name: {**one, **verdict(pooled, local, one)} for name, one in found.items()}
    best = max(algorithms, key=lambda name: (algorithms[name]["passes"], algorithms[name]["dice"]))
    return {
        "pooled": pooled,
        "local": local,
        "algorithms": algorithms,
        "best": best,
        "passing": [name for name, one in algorithms.items() if one["passes"]],
        "patients": {name: hospital.patients for name, hospital in HOSPITALS.items()},
        "steps_per_hospital": job_of({}, rounds).training.total_steps,
        "seconds": time.monotonic() - started_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=JOB["training"]["rounds"])
    parser.add_argument("--only", action="append", default=[], choices=list(FEDERATED), help="this algorithm alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = run(Path(name), workers=arguments.workers, rounds=arguments.rounds, only=tuple(arguments.only))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
