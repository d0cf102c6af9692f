"""Tiny hospitals for a real federation: archives of NIfTI files with a ball in each, and a job that takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from fedward.imaging.splits import assign
from fedward.randomness import Seeded
from fedward.settings.federation import FederationSettings, HospitalEntry, Project
from fedward.settings.job import (
    Exchange,
    ExchangeMode,
    Input,
    Segmentation,
    Sites,
    Training,
    TrainingJob,
    UNet3D,
    Window,
)
from fedward.settings.networks import MultiTaskDenseNet3D, ViT3D
from fedward.settings.site import Split
from fedward.settings.tasks import Classification, MultiTask
from fedward_flare.jobs import prepare
from fedward_flare.releases import keep_document
from fedward_flare.results import FinishedJob
from fedward_flare.session import Session
from fedward_flare.workdir import Workdir

NAMES = ("north", "east", "south", "west")
PATIENTS = 12
SHAPE = (20, 20, 20)

SITE_FILE = """
name = "{name}"
organisation = "{name}"

[[data]]
kind = "nifti"
images = "images"
labels = "labels"
modality = "CT"
classes = {{ nodule = 1, other = 2 }}

[bounds]
networks = ["unet3d", "vit3d", "multitask_densenet3d"]
exchange_modes = ["plain", "secure-sum", "ckks"]
min_sites = 2
min_organisations = 2
min_patients = 3

[privacy]
allow_non_private = true
share_metrics = ["validation_score", "validation_cases"]

[split]
validation = 0.3
test = 0.1

[models]
auto_activate = true

[compute]
device = "cpu"
precision = "float32"
threads = 1
"""


def write_archive(folder: Path, name: str) -> None:
    """Write blocks of noise at -700 HU with one ball of 50 HU, 12 mm across, and its label."""
    generator = Seeded(3).generator("archive", name)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    for patient in range(PATIENTS):
        centre = generator.uniform(6, 14, 3)
        ball = np.linalg.norm((index - centre) * 2.0, axis=-1) <= 6
        image = np.where(ball, 50, -700) + generator.normal(0, 30, SHAPE)
        for kind, array in (("images", image.astype(np.float32)), ("labels", ball.astype(np.uint8))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            picture = SimpleITK.GetImageFromArray(array)
            picture.SetSpacing((2.0, 2.0, 2.0))
            SimpleITK.WriteImage(picture, str(folder / kind / f"{name}{patient:02d}.nii.gz"))


def write_hospital(folder: Path, name: str) -> None:
    """Write an archive, and a split under which four patients validate, three are held out, and the others train."""
    write_archive(folder, name)
    patients = [f"{name}{patient:02d}" for patient in range(PATIENTS)]
    write_split_key(folder / "state", patients, Split(validation=0.3, test=0.1), validation=4, test=3)


def write_split_key(state: Path, patients: Sequence[str], split: Split, *, validation: int, test: int) -> None:
    """Write a key by which so many of the patients validate and are held out: chance would at times leave too few."""
    for number in range(10_000):
        key = Seeded(5).generator("split", state.parent.name, number).bytes(32)
        parts = [assign(patient, key=key, split=split) for patient in patients]
        if (parts.count("validation"), parts.count("test")) == (validation, test):
            state.mkdir(mode=0o700)
            (state / "split.key").write_bytes(key)
            (state / "split.key").chmod(0o600)
            return
    raise AssertionError("no key splits the patients so")


def federation_of(folder: Path, names: tuple[str, ...] = NAMES, port: int | None = None) -> FederationSettings:
    for name in names:
        (folder / f"{name}.toml").write_text(SITE_FILE.format(name=name))
    hospitals = tuple(HospitalEntry(name=n, organisation=n, site_file=folder / f"{n}.toml") for n in names)
    return FederationSettings(federation=Project(project="poc_tests", port=port), hospital=hospitals)


def training_job(
    *, steps: int = 2, rounds: int = 2, minimum: int = 3, deadline_s: float = 120.0, mode: ExchangeMode = "plain"
) -> TrainingJob:
    return TrainingJob(
        kind="train",
        name="ball",
        sites=Sites(minimum=minimum, deadline_s=deadline_s),
        input=Input(modality="CT", spacing_mm=(2, 2, 2), intensity=Window(kind="window", low=-1000, high=400)),
        task=Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice"),
        network=UNet3D(name="unet3d", channels=(4, 8)),
        training=Training(
            rounds=rounds, steps_per_round=steps, batch_size=1, patch_size=(16, 16, 16), learning_rate=1e-3
        ),
        exchange=Exchange(mode=mode, max_update_norm=1000.0),
    )


def classifying(job: TrainingJob) -> TrainingJob:
    """Give the same job with a small transformer that says whether a patch is around a nodule."""
    task = Classification(kind="classification", classes=("elsewhere", "nodule"), positive="nodule")
    network = ViT3D(name="vit3d", window=(16, 16, 16), token=(8, 8, 8), hidden=24, layers=2, heads=3, mlp=32)
    changed = job.model_copy(update={"task": task, "network": network})
    return TrainingJob.model_validate(changed.model_dump())


def multitasking(job: TrainingJob, classes: tuple[str, ...] = ("nodule", "other")) -> TrainingJob:
    """Give the same job with the multi-task network; the last class is the positive one."""
    task = MultiTask(kind="multitask", classes=classes, positive=classes[-1])
    network = MultiTaskDenseNet3D(name="multitask_densenet3d", growth_rate=8)
    training = job.training.model_copy(update={"patch_size": (16, 16, 32)})
    changed = job.model_copy(update={"task": task, "network": network, "training": training})
    return TrainingJob.model_validate(changed.model_dump())


@dataclass
class Federation:
    """The running federation."""

    workdir: Workdir
    session: Session

    def submit(self, job: TrainingJob) -> str:
        prepared = prepare(job, self.workdir)
        keep_document(prepared, self.workdir)
        return self.session.submit(prepared)

    def run(self, job: TrainingJob) -> FinishedJob:
        return self.session.watch(self.submit(job), timeout_s=180)
