"""One classification benchmark: a public set of small images, dealt to hospitals with unequal shares of each class.

Each hospital gets a folder of NIfTI images and a table of their classes, as a real one has them. Trained federated
(through the real local federation), pooled, and at each hospital alone; all with the same steps, scored by the area
under the ROC curve on the same held-out patients.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from federated_segmentation import train_federated, write_split_key
from numpy.typing import NDArray

from fedward.evaluation.classification import auc
from fedward.evaluation.images import image_probabilities
from fedward.evaluation.local_only import prepare_worker, runtime_of, train_alone
from fedward.imaging.cases import SiteData
from fedward.models.runtime import evaluation_network
from fedward.settings.federation import FederationSettings, HospitalEntry, Project
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings, read_site_settings
from fedward.settings.tasks import Classification
from fedward_flare.jobs import read_job
from fedward_flare.workdir import claimed

HOSPITALS = ("north", "east", "south", "west")

#: Of the Dirichlet distribution by which each class is dealt: the smaller, the more unequal.
CONCENTRATION = 0.5

#: No hospital gets fewer patients, nor fewer of the rarest class.
MIN_PATIENTS, MIN_OF_A_CLASS = 40, 4

SITE_FILE = """
name = "{name}"
organisation = "{name}"
state = "state"
[split]
validation = 0.1
test = 0.2
[bounds]
networks = ["{network}"]
[privacy]
allow_non_private = true
share_metrics = ["validation_score", "validation_cases"]
[compute]
threads = 1
precision = "float32"
memory_cases = 5000
"""

SOURCE = """
[[data]]
kind = "nifti"
images = "{folder}"
image_classes = "{folder}/classes.csv"
modality = "CT"
"""


@dataclass(frozen=True, eq=False)
class Images:
    """A public set.

    Attributes:
        arrays: Shape ``(image, slice, row, column)``, uint8.
        classes: The class's name of each.
    """

    arrays: NDArray[np.uint8]
    classes: Sequence[str]


def run(images: Images, job_file: Path, folder: Path) -> dict[str, Any]:
    """Do all of it below ``folder`` and give the figures."""
    started_s = time.monotonic()
    job = read_job(job_file)
    assert isinstance(job, TrainingJob)
    dealt = deal(images.classes)
    with claimed(folder / "federation") as workdir:
        settings = federation(job, folder)
        for name, numbers in dealt.items():
            place_images(images, numbers, workdir.hospital(name))
        weights, rounds = train_federated(settings, workdir, job)
        federated_s = time.monotonic() - started_s
        sites = tuple(read_site_settings(workdir.site_file(name)) for name in dealt)
        pool = pooled_site(job, folder / "pool", sites)
        with multiprocessing.get_context("spawn").Pool(os.cpu_count(), initializer=prepare_worker) as workers:
            pooled = workers.apply_async(train_and_score, (pool, sites, job))
            federated = workers.apply_async(score, (weights, sites, job))
            local = {site.name: workers.apply_async(train_and_score, (site, sites, job)) for site in sites}
            result = {
                "pooled": pooled.get(),
                "federated": federated.get() | {"rounds": rounds, "seconds": federated_s},
                "local": {name: alone.get() for name, alone in local.items()},
            }
    result["steps_per_hospital"] = job.training.total_steps
    result["images"] = {name: count_classes([images.classes[n] for n in numbers]) for name, numbers in dealt.items()}
    result["seconds"] = time.monotonic() - started_s
    return result


def deal(classes: Sequence[str]) -> Mapping[str, list[int]]:
    """Deal the images to the hospitals, each class by its own draw of a Dirichlet distribution."""
    generator = np.random.default_rng(0)
    while True:
        dealt: dict[str, list[int]] = {name: [] for name in HOSPITALS}
        for of_class in sorted(set(classes)):
            numbers = generator.permutation([n for n, name in enumerate(classes) if name == of_class])
            ends = np.cumsum(generator.dirichlet([CONCENTRATION] * len(HOSPITALS)))[:-1]
            for name, part in zip(HOSPITALS, np.split(numbers, np.round(ends * len(numbers)).astype(int)), strict=True):
                dealt[name] += part.tolist()
        counts = [count_classes([classes[n] for n in numbers]) for numbers in dealt.values()]
        if all(
            sum(count.values()) >= MIN_PATIENTS and min(count.get(name, 0) for name in set(classes)) >= MIN_OF_A_CLASS
            for count in counts
        ):
            return dealt


def count_classes(classes: Sequence[str]) -> dict[str, int]:
    return {name: classes.count(name) for name in sorted(set(classes))}


def federation(job: TrainingJob, folder: Path) -> FederationSettings:
    for name in HOSPITALS:
        (folder / f"{name}.toml").write_text(site_file(job, name, folders=["images"]))
    entries = tuple(HospitalEntry(name=n, organisation=n, site_file=folder / f"{n}.toml") for n in HOSPITALS)
    return FederationSettings(federation=Project(project="benchmark"), hospital=entries)


def site_file(job: TrainingJob, name: str, *, folders: Sequence[object]) -> str:
    return SITE_FILE.format(name=name, network=job.network.name) + "".join(SOURCE.format(folder=f) for f in folders)


def place_images(images: Images, numbers: Sequence[int], hospital: Path) -> None:
    """Write a hospital's images with their table, and give it the public split key."""
    folder = hospital / "images"
    folder.mkdir(parents=True)
    for number in numbers:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(images.arrays[number]), str(folder / f"{number:05d}.nii.gz"))
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "class"), *((f"{n:05d}", images.classes[n]) for n in numbers)])
    write_split_key(hospital / "state")


def pooled_site(job: TrainingJob, folder: Path, sites: Sequence[SiteSettings]) -> SiteSettings:
    """Give one site that reads all hospitals' folders, with the same patients in the same parts."""
    write_split_key(folder / "state")
    folders = [source.images for site in sites for source in site.data if source.kind == "nifti"]
    (folder / "site.toml").write_text(site_file(job, "pool", folders=folders))
    return read_site_settings(folder / "site.toml")


def train_and_score(site: SiteSettings, sites: Sequence[SiteSettings], job: TrainingJob) -> dict[str, Any]:
    return score(train_alone(site, job).weights, sites, job)


def score(weights: NDArray[np.float32], sites: Sequence[SiteSettings], job: TrainingJob) -> dict[str, Any]:
    """Give the AUC over the held-out patients of all hospitals, and of each (None where all are of one class)."""
    assert isinstance(job.task, Classification)
    found = {site.name: answers(weights, site, job) for site in sites}
    scores, truth = (np.concatenate(parts) for parts in zip(*found.values(), strict=True))
    return {
        "auc": auc(scores, truth),
        "auc_by_site": {name: auc(*values) for name, values in found.items()},
        "test_images": len(truth),
        "test_positives": int(truth.sum()),
    }


def answers(
    weights: NDArray[np.float32], site: SiteSettings, job: TrainingJob
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give the positive class's probability for each held-out image of a site, and whether it is of that class."""
    assert isinstance(job.task, Classification)
    cases = SiteData.open(site, job, parts=["test"]).test
    runtime = runtime_of(job, site.compute)
    module = evaluation_network(job.network, weights, task=job.task, runtime=runtime)
    probabilities = image_probabilities(module, cases, job, runtime=runtime)
    positive = job.task.positive_index
    return probabilities[:, positive], np.array([case.image_class == positive for case in cases])
