"""What patient-level differential privacy costs: a step's time and memory, and the Dice that an epsilon leaves.

The hippocampus (Medical Segmentation Decathlon, task 4) dealt to four equal hospitals, about 40 training patients each.
Every hospital trains by ``train_private`` with its own secret noise, and the updates are averaged as the server does;
the noise is calibrated so that the whole training costs no patient more than the epsilon of the row. Scored on held-out
patients after the last round. Epsilons run side by side, one core each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from federated_segmentation import ROOT, Benchmark, place_cases, score, site_file
from private_step import measure

from fedward.evaluation.local_only import prepare_worker, runtime_of
from fedward.federation.averaging import apply_update, weighted_mean
from fedward.federation.checks import public_weight
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.runtime import Runtime
from fedward.privacy.accounting import calibrate
from fedward.privacy.mechanisms import SampledGaussian
from fedward.randomness import Secret
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings, read_site_settings
from fedward.training.local import train
from fedward.training.optimiser import OptimiserState
from fedward.training.private import train_private
from fedward_flare.jobs import read_job

HOSPITALS = ("north", "east", "south", "west")

#: The (epsilon, delta) of the curve.
TARGETS = ((1.0, 1e-5), (2.0, 1e-5), (4.0, 1e-5), (8.0, 1e-5), (8.0, 1e-3))

#: Without privacy the same steps take as many crops and a smaller rate, which serves better there.
PLAIN_BATCH = 40
PLAIN_LEARNING_RATE = 1e-2


def hospitals(data: Path, folder: Path, *, validation: float = 0.0) -> tuple[SiteSettings, ...]:
    """Deal the patients of ``data`` to hospitals below ``folder``; a fifth of each one's is held out."""
    images = sorted((data / "images").glob("*.nii.gz"))
    order = np.random.default_rng(0).permutation(len(images))
    dealt = {name: [images[k] for k in sorted(order[i :: len(HOSPITALS)])] for i, name in enumerate(HOSPITALS)}
    benchmark = Benchmark(
        job=ROOT / "jobs" / "hippocampus_private.toml",
        cases={name: [(path, data / "labels" / path.name) for path in paths] for name, paths in dealt.items()},
        classes={"anterior": 1, "posterior": 2},
        validation=validation,
        test=0.2,
    )
    for name, cases in benchmark.cases.items():
        place_cases(cases, folder / name)
        (folder / name / "site.toml").write_text(site_file(benchmark, name, sources=("nifti",)))
    return tuple(read_site_settings(folder / name / "site.toml") for name in HOSPITALS)


def noise_multiplier(job: TrainingJob, epsilon: float, delta: float) -> float:
    """Give the noise with which the whole of ``job`` costs a patient at most ``(epsilon, delta)``."""
    assert job.privacy is not None
    rate, steps = job.privacy.sampling_rate, job.training.total_steps
    return calibrate(epsilon, delta, lambda noise: [SampledGaussian(rate, noise, steps)])


def train_federated(
    job: TrainingJob, sites: Sequence[SiteSettings], *, noise: float | None, runtime: Runtime
) -> np.ndarray:
    """Train over all sites in this process and give the last global weights; without ``noise`` without privacy."""
    opened = [SiteData.open(site, job, parts=["train"]) for site in sites]
    shares = {data.name: public_weight(data.patients, cap=job.exchange.weight_cap) for data in opened}
    states: dict[str, OptimiserState] = {}
    weights, secret = initial_weights(job), Secret()
    for number in range(1, job.training.rounds + 1):
        updates = {}
        for data in opened:
            where = {"round_number": number, "runtime": runtime, "optimiser_state": states.get(data.name)}
            if noise is None:
                result = train(weights, data, job, **where)
            else:
                result = train_private(weights, data, job, noise_multiplier=noise, secret=secret, **where)
            updates[data.name], states[data.name] = result.update, result.optimiser_state
        weights = apply_update(weights, weighted_mean(updates, shares))
    return weights


def private_dice(job: TrainingJob, sites: Sequence[SiteSettings], target: tuple[float, float]) -> dict[str, Any]:
    started_s = time.monotonic()
    noise = noise_multiplier(job, *target)
    weights = train_federated(job, sites, noise=noise, runtime=runtime_of(job, sites[0].compute))
    scores = score(weights, sites, job)
    seconds = time.monotonic() - started_s
    return {"epsilon": target[0], "delta": target[1], **scores, "noise_multiplier": noise, "seconds": seconds}


def plain_dice(job: TrainingJob, sites: Sequence[SiteSettings]) -> dict[str, Any]:
    training = job.training.model_copy(update={"batch_size": PLAIN_BATCH, "learning_rate": PLAIN_LEARNING_RATE})
    job = job.model_copy(update={"training": training, "privacy": None})
    return score(train_federated(job, sites, noise=None, runtime=runtime_of(job, sites[0].compute)), sites, job)


def run(data: Path, folder: Path) -> dict[str, Any]:
    """Do all of it below ``folder`` and give the figures."""
    started_s = time.monotonic()
    job, demo = (
        read_job(ROOT / "jobs" / f"{name}.toml") for name in ("hippocampus_private", "lung_nodule_segmentation")
    )
    assert isinstance(job, TrainingJob)
    assert isinstance(demo, TrainingJob)
    sites = hospitals(data, folder)
    patients = {site.name: len(SiteData.open(site, job).training_patients) for site in sites}
    step = measure(
        job.model_copy(update={"network": demo.network, "training": demo.training}), folder / HOSPITALS[0] / "site.toml"
    )
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), initializer=prepare_worker) as workers:
        plain = workers.apply_async(plain_dice, (job, sites))
        curve = [workers.apply_async(private_dice, (job, sites, target)) for target in TARGETS]
        result = {"curve": [point.get() for point in curve], "non_private_dice": plain.get()["dice"]}
    return result | step | {"training_patients": patients, "seconds": time.monotonic() - started_s}


def table(result: dict[str, Any]) -> str:
    rows = [f"{'epsilon':>8} {'delta':>8} {'Dice':>6}"]
    rows += [f"{point['epsilon']:>8g} {point['delta']:>8g} {point['dice']:>6.3f}" for point in result["curve"]]
    rows.append(f"{'none':>8} {'':>8} {result['non_private_dice']:>6.3f}")
    names = ("step_time_ratio", "peak_memory_ratio", "noise_share")
    return "\n".join(rows + [f"{name.replace('_', ' ')}: {result[name]:.3g}" for name in names])


def plot(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for delta in sorted({point["delta"] for point in result["curve"]}):
        points = sorted((point["epsilon"], point["dice"]) for point in result["curve"] if point["delta"] == delta)
        axes.plot(*zip(*points, strict=True), marker="o", label=f"delta = {delta:g}")
    axes.axhline(result["non_private_dice"], color="0.5", linestyle="--", label="without privacy")
    axes.set(xscale="log", ylim=(0, 1), xlabel="epsilon of each patient, whole training", ylabel="mean foreground Dice")
    ticks = sorted({point["epsilon"] for point in result["curve"]})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "hippocampus_msd")
    parser.add_argument("--plot", type=Path, help="write the curve as PNG")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"there is no folder {arguments.data}; name the data set's folder with --data")
    with tempfile.TemporaryDirectory() as name:
        result = run(arguments.data, Path(name))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.plot:
        plot(result, arguments.plot)
    print(table(result))


if __name__ == "__main__":
    main()
