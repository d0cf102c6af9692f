"""One benchmark: a public data set dealt to hospitals, trained federated (through the real local federation), pooled,
and at each hospital alone; all with the same steps, scored on the same held-out patients."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from fedward.evaluation.local_only import prepare_worker, score_on_sites, train_alone
from fedward.evaluation.summary import summarise
from fedward.models.networks import build
from fedward.models.weights import flattened, layout_of
from fedward.settings.federation import FederationSettings, HospitalEntry, Project
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings, read_site_settings
from fedward_flare import poc
from fedward_flare.jobs import prepare, read_job
from fedward_flare.workdir import Workdir, claimed

ROOT = Path(__file__).parents[2]

#: One public key for all hospitals and the pool: every patient then has the same part everywhere, in every run.
SPLIT_KEY = bytes(range(32))

SITE_FILE = """
name = "{name}"
organisation = "{name}"
state = "state"
[split]
validation = {validation}
test = {test}
[bounds]
exchange_modes = ["secure-sum"]
min_patients = {min_patients}
[privacy]
allow_non_private = true
share_metrics = ["validation_score", "validation_cases"]
[compute]
threads = 1
{sources}
"""

SOURCE = """
[[data]]
kind = "nifti"
images = "{folder}"
labels = "{folder}"
modality = "MR"
image_suffix = "_image.nii.gz"
label_suffix = "_label.nii.gz"
classes = {classes}
"""


@dataclass(frozen=True)
class Benchmark:
    """What one benchmark is about.

    Attributes:
        job: The job file.
        cases: The (image, label) files of each hospital.
        classes: Each class's value in the label files.
        validation: Share of the patients that choose the federation's best round.
        test: Share of the patients held out from all training.
        min_patients: What the hospitals' site files demand.
    """

    job: Path
    cases: Mapping[str, Sequence[tuple[Path, Path]]]
    classes: Mapping[str, int]
    validation: float
    test: float
    min_patients: int = 10


def run(benchmark: Benchmark, folder: Path) -> dict[str, Any]:
    """Do all of it below ``folder`` and give the figures."""
    started_s = time.monotonic()
    job = read_job(benchmark.job)
    assert isinstance(job, TrainingJob)
    settings = federation(benchmark, folder)
    with claimed(folder / "federation") as workdir:
        place_data(benchmark, workdir)
        weights, rounds = train_federated(settings, workdir, job)
        federated_s = time.monotonic() - started_s
        sites = tuple(read_site_settings(workdir.site_file(name)) for name in benchmark.cases)
        pool = pooled_site(benchmark, folder / "pool", sites)
        with multiprocessing.get_context("spawn").Pool(os.cpu_count(), initializer=prepare_worker) as workers:
            federated = workers.apply_async(score, (weights, sites, job))
            pooled = workers.apply_async(train_and_score, (pool, sites, job))
            local = {site.name: workers.apply_async(train_and_score, (site, sites, job)) for site in sites}
            result = {
                "pooled": pooled.get(),
                "federated": federated.get() | {"rounds": rounds, "seconds": federated_s},
                "local": {name: alone.get() for name, alone in local.items()},
            }
    result["steps_per_hospital"] = job.training.total_steps
    result["patients"] = {name: len(cases) for name, cases in benchmark.cases.items()}
    result["seconds"] = time.monotonic() - started_s
    return result


def federation(benchmark: Benchmark, folder: Path) -> FederationSettings:
    for name in benchmark.cases:
        (folder / f"{name}.toml").write_text(site_file(benchmark, name, sources=("nifti",)))
    hospitals = tuple(HospitalEntry(name=n, organisation=n, site_file=folder / f"{n}.toml") for n in benchmark.cases)
    return FederationSettings(federation=Project(project="benchmark"), hospital=hospitals)


def site_file(benchmark: Benchmark, name: str, *, sources: Sequence[str]) -> str:
    classes = "{ " + ", ".join(f"{key} = {value}" for key, value in benchmark.classes.items()) + " }"
    return SITE_FILE.format(
        name=name,
        validation=benchmark.validation,
        test=benchmark.test,
        min_patients=benchmark.min_patients,
        sources="".join(SOURCE.format(folder=folder, classes=classes) for folder in sources),
    )


def place_data(benchmark: Benchmark, workdir: Workdir) -> None:
    for name, cases in benchmark.cases.items():
        place_cases(cases, workdir.hospital(name))


def place_cases(cases: Sequence[tuple[Path, Path]], hospital: Path) -> None:
    """Link a hospital's cases into its ``nifti`` folder, and give it the public split key."""
    target = hospital / "nifti"
    target.mkdir(parents=True)
    for image, label in cases:
        case = image.name.removesuffix(".nii.gz").removesuffix("_image")
        (target / f"{case}_image.nii.gz").symlink_to(image.resolve())
        (target / f"{case}_label.nii.gz").symlink_to(label.resolve())
    write_split_key(hospital / "state")


def write_split_key(state: Path) -> None:
    state.mkdir(parents=True)
    (state / "split.key").write_bytes(SPLIT_KEY)
    (state / "split.key").chmod(0o600)


def pooled_site(benchmark: Benchmark, folder: Path, sites: Sequence[SiteSettings]) -> SiteSettings:
    """Give one site that reads all hospitals' folders, with the same patients in the same parts."""
    write_split_key(folder / "state")
    sources = [str(source.images) for site in sites for source in site.data if source.kind == "nifti"]
    (folder / "site.toml").write_text(site_file(benchmark, "pool", sources=sources))
    return read_site_settings(folder / "site.toml")


def train_federated(settings: FederationSettings, workdir: Workdir, job: TrainingJob) -> tuple[np.ndarray, int]:
    """Run the job through a real local federation; give the released weights and the number of rounds."""
    with poc.running(settings, workdir) as session:
        job_id = session.submit(prepare(job, workdir))
        finished = session.watch(job_id)
    record = finished.record
    if record.status != "completed" or finished.model is None or any(r.failures for r in record.rounds):
        raise SystemExit(f"the federation did not do its rounds: {record}")
    layout = layout_of(build(job.network, task=job.task))
    return flattened(layout, load_file(finished.model)), len(record.rounds)


def train_and_score(site: SiteSettings, sites: Sequence[SiteSettings], job: TrainingJob) -> dict[str, Any]:
    return score(train_alone(site, job).weights, sites, job)


def score(weights: np.ndarray, sites: Sequence[SiteSettings], job: TrainingJob) -> dict[str, Any]:
    scores = score_on_sites(weights, sites, job)
    whole = summarise([case for cases in scores.values() for case in cases])
    return {
        "dice": whole.score,
        "dice_by_class": dict(zip(job.task.classes, whole.class_dice, strict=True)),
        "dice_by_site": {name: summarise(cases).score for name, cases in scores.items()},
        "test_cases": whole.cases,
    }


def main(description: str, data_set: str, benchmark_of: Any) -> None:
    """Parse ``--json FILE [--data DIR]``, run, write the figures and print them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / data_set)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"there is no folder {arguments.data}; name the data set's folder with --data")
    with tempfile.TemporaryDirectory() as name:
        result = run(benchmark_of(arguments.data), Path(name))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
