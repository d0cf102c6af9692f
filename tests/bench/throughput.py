"""Training patches a second and inference seconds a volume of each network, against a plain MONAI loop in the same run.

Both sides have the same network, patches of the same size and kinds, optimiser, precision and threads. They take turns,
so that whatever else the machine does falls on both. The plain loop is what MONAI's tutorials do: a dataset in memory,
MONAI's own dictionary transforms, a data loader, a loss and an optimiser; for whole volumes, resampling, sliding window
and resampling back. Phantom scans stand for patients; a CUDA device, where there is one, takes float32, bfloat16, and
that compiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from federated_segmentation import ROOT
from monai.data.dataloader import DataLoader
from monai.data.dataset import Dataset
from monai.data.meta_tensor import MetaTensor
from monai.inferers.utils import sliding_window_inference
from monai.losses.dice import DiceCELoss
from monai.transforms.compose import Compose
from monai.transforms.croppad.array import SpatialCrop, SpatialPad
from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld
from monai.transforms.intensity.array import ScaleIntensityRange
from monai.transforms.intensity.dictionary import RandGaussianNoised, RandScaleIntensityd, RandShiftIntensityd
from monai.transforms.spatial.array import Spacing, SpatialResample
from monai.transforms.spatial.dictionary import RandFlipd, RandRotate90d
from monai.transforms.utility.dictionary import FgBgToIndicesd, SelectItemsd
from torch.utils.data import RandomSampler

from fedward.dicom.source import open_source
from fedward.dicom.volume import Volume
from fedward.evaluation.cases import score_cases
from fedward.imaging.cases import Case, SiteData
from fedward.imaging.centred import lesion_centres, places_elsewhere
from fedward.imaging.grid import source_grid
from fedward.imaging.phantom.hospital import write_hospital
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.models.sliding_window import predict
from fedward.models.weights import write_weights
from fedward.randomness import Seeded
from fedward.settings.federation import read_federation
from fedward.settings.job import TrainingJob, Window
from fedward.settings.read import parse_settings
from fedward.settings.site import SiteSettings
from fedward.settings.tasks import Classification, MultiTask, Segmentation
from fedward.training.local import train
from fedward.training.multitask_loss import MultiTaskTruth, multitask_loss
from fedward_flare.jobs import read_job

JOBS = ("lung_nodule_segmentation", "lung_nodule_classification", "lung_nodule_multitask")

PATIENTS = 4

#: Turns of each side in training and in inference, and the training steps of a turn; the first step of a turn, with its
#: allocations, does not count.
TRAINING_TURNS, INFERENCE_TURNS, STEPS = 6, 12, 3

#: Rows and columns in the middle of a scan that stand for a volume.
MIDDLE = 96

#: Patches that MONAI's cropping draws from a case at a time.
SAMPLES = 4

Timed = Callable[[], Sequence[float]]


@dataclass(frozen=True, eq=False)
class Scans:
    """The same scans for both sides: as a site's cases, and one as a volume."""

    data: SiteData
    volume: Volume

    @property
    def cases(self) -> tuple[Case, ...]:
        return self.data.train


def compare(job: TrainingJob, scans: Scans, runtime: Runtime) -> dict[str, float]:
    """Give patches a second, seconds a volume, and the ratios of ours over the plain loop's speed (1: as fast)."""
    patches = job.training.batch_size
    ours, plain = (lambda: our_steps_s(job, scans, runtime)), plain_steps(job, scans, runtime)
    ours_s, plain_s = in_turns(ours, plain, turns=TRAINING_TURNS)
    result = {
        "patches_per_s": patches / min(ours_s),
        "plain_patches_per_s": patches / min(plain_s),
        "training_ratio": min(plain_s) / min(ours_s),
        "training_ratio_of_medians": statistics.median(plain_s) / statistics.median(ours_s),
    }
    ours, plain = inference(job, scans, runtime)
    ours_s, plain_s = in_turns(ours, plain, turns=INFERENCE_TURNS)
    return result | {
        "s_per_volume": min(ours_s),
        "plain_s_per_volume": min(plain_s),
        "inference_ratio": min(plain_s) / min(ours_s),
        "inference_ratio_of_medians": statistics.median(plain_s) / statistics.median(ours_s),
    }


def in_turns(ours: Timed, plain: Timed, *, turns: int) -> tuple[list[float], list[float]]:
    """Give the seconds of both sides; who goes first changes with every turn, and the first turn does not count."""
    found: dict[Timed, list[float]] = {ours: [], plain: []}
    for turn in range(turns + 1):
        for side in (ours, plain) if turn % 2 else (plain, ours):
            seconds = side()
            found[side] += seconds if turn else ()
    return found[ours], found[plain]


def our_steps_s(job: TrainingJob, scans: Scans, runtime: Runtime) -> list[float]:
    ended: list[float] = []
    rounds = {"rounds": 1, "steps_per_round": STEPS + 1}
    job = job.model_copy(update={"training": job.training.model_copy(update=rounds)})

    def note(*_: int) -> None:
        settle(runtime)
        ended.append(time.perf_counter())

    train(initial_weights(job), scans.data, job, round_number=1, runtime=runtime, progress=note)
    return [after - before for before, after in pairwise(ended)]


def settle(runtime: Runtime) -> None:
    if runtime.is_cuda:
        torch.cuda.synchronize()


def plain_steps(job: TrainingJob, scans: Scans, runtime: Runtime) -> Timed:
    """Give the same number of steps of MONAI's own loop, with a network of its own that goes on learning."""
    cases = [case.cache.training_case(case.key, mapped=False) for case in scans.cases]
    # As a cached dataset keeps them: where the lesions are is found once.
    find = FgBgToIndicesd("label", fg_postfix="_fg_indices", bg_postfix="_bg_indices")
    rows = [
        find(
            {
                "image": torch.from_numpy(case.image.astype(np.float32))[None],
                "label": torch.from_numpy(case.label.copy())[None],
            }
        )
        for case in cases
    ]
    asked = job.training
    both = ["image", "label"]
    transform = Compose(
        [
            RandCropByPosNegLabeld(
                both,
                "label",
                asked.patch_size,
                num_samples=SAMPLES,
                fg_indices_key="label_fg_indices",
                bg_indices_key="label_bg_indices",
            ),
            SelectItemsd(both),
            *(RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
            RandRotate90d(both, prob=0.75, max_k=3, spatial_axes=(1, 2)),
            RandScaleIntensityd("image", factors=asked.augmentation.scale_intensity, prob=1.0),
            RandShiftIntensityd("image", offsets=asked.augmentation.shift_intensity, prob=1.0),
            RandGaussianNoised("image", prob=1.0, std=asked.augmentation.noise),
        ]
    )
    dataset = Dataset(rows, transform)
    steps = asked.batch_size // SAMPLES
    sampler = RandomSampler(dataset, replacement=True, num_samples=steps * (STEPS + 1))
    loader = DataLoader(dataset, batch_size=steps, sampler=sampler, num_workers=0)
    module = runtime.compiled(runtime.place_module(build(job.network, task=job.task)).train())
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=asked.weight_decay)
    loss_of = plain_loss(job)

    def timed() -> list[float]:
        ended = []
        for batch in loader:
            images = runtime.place_batch(batch["image"].as_tensor())
            labels = batch["label"].as_tensor().to(runtime.device)
            optimiser.zero_grad(set_to_none=True)
            with runtime.autocast():
                answer = module(images)
            loss_of(answer, labels).backward()
            optimiser.step()
            settle(runtime)
            ended.append(time.perf_counter())
        return [after - before for before, after in pairwise(ended)]

    return timed


def plain_loss(job: TrainingJob) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    centre = tuple(size // 2 for size in job.training.patch_size)

    def of_centre(labels: torch.Tensor) -> torch.Tensor:
        return (labels[(slice(None), 0, *centre)] > 0).long()

    if isinstance(job.task, Classification):
        return lambda logits, labels: torch.nn.functional.cross_entropy(logits.float(), of_centre(labels))
    if isinstance(job.task, MultiTask):
        task = job.task

        def multitask(answer: Any, labels: torch.Tensor) -> torch.Tensor:
            known = of_centre(labels).float()
            return multitask_loss(answer, MultiTaskTruth(labels, known, 10 * known), task=task)

        return multitask
    dice = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)
    return lambda logits, labels: dice(logits.float(), labels)


def inference(job: TrainingJob, scans: Scans, runtime: Runtime) -> tuple[Timed, Timed]:
    """Give both sides' inference over the scans: whole volumes for segmentation, the same places for the others."""
    if isinstance(job.task, Segmentation):
        return whole_volumes(job, scans, runtime)
    weights = initial_weights(job)

    def ours() -> list[float]:
        started_s = time.perf_counter()
        score_cases(weights, scans.cases, job, runtime=runtime)
        return [(time.perf_counter() - started_s) / len(scans.cases)]

    def plain() -> list[float]:
        started_s = time.perf_counter()
        module = placed_network(job, weights, runtime)
        for case in scans.cases:
            plain_places(module, case, job, runtime)
        return [(time.perf_counter() - started_s) / len(scans.cases)]

    return ours, plain


def placed_network(job: TrainingJob, weights: np.ndarray, runtime: Runtime) -> torch.nn.Module:
    module = build(job.network, task=job.task)
    write_weights(module, weights)
    return runtime.place_module(module).eval()


def plain_places(module: torch.nn.Module, case: Case, job: TrainingJob, runtime: Runtime) -> None:
    prepared = case.cache.training_case(case.key, mapped=False)
    size, places = job.training.patch_size, lesion_centres(prepared)
    if isinstance(job.task, Classification):
        elsewhere = places_elsewhere(prepared, size, count=32, generator=np.random.default_rng(0))
        places = (*places, *elsewhere)
    image = torch.from_numpy(prepared.image.astype(np.float32))[None]
    pad = SpatialPad(size)
    patches = [pad(SpatialCrop(roi_center=place, roi_size=size)(image)).as_tensor() for place in places]
    with torch.inference_mode(), runtime.autocast():
        for start in range(0, len(patches), job.training.batch_size):
            answer = module(runtime.place_batch(torch.stack(patches[start : start + job.training.batch_size])))
            found = answer if isinstance(answer, torch.Tensor) else answer.segmentation
            torch.softmax(found.float(), dim=1).cpu()


def whole_volumes(job: TrainingJob, scans: Scans, runtime: Runtime) -> tuple[Timed, Timed]:
    module = placed_network(job, initial_weights(job), runtime)
    size, volume = job.training.patch_size, scans.volume
    window = job.input.intensity
    assert isinstance(window, Window)
    scale = ScaleIntensityRange(window.low, window.high, 0.0, 1.0, clip=True)
    space = Spacing(pixdim=job.input.spacing_mm, mode="bilinear")

    def foreground(windows: torch.Tensor) -> torch.Tensor:
        with runtime.autocast():
            return torch.softmax(module(runtime.place_batch(windows)).float(), dim=1)

    def ours() -> list[float]:
        started_s = time.perf_counter()
        predict(module, volume, job.input, size, runtime=runtime)
        return [time.perf_counter() - started_s]

    def plain() -> list[float]:
        started_s = time.perf_counter()
        grid = source_grid(volume.array.shape, volume.affine)
        image = MetaTensor(torch.from_numpy(volume.array.copy())[None], affine=torch.from_numpy(grid.affine))
        spaced = space(scale(image))
        with torch.inference_mode():
            found = sliding_window_inference(
                spaced.as_tensor()[None], size, 4, foreground, overlap=0.5, mode="gaussian", device="cpu",
                sw_device=runtime.device,
            )  # fmt: skip
            back = SpatialResample(mode="bilinear")
            on_model = MetaTensor(found[0], affine=spaced.affine)
            back(on_model, dst_affine=torch.from_numpy(grid.affine), spatial_size=grid.shape).argmax(dim=0)
        return [time.perf_counter() - started_s]

    return ours, plain


def scans_for(jobs: Sequence[TrainingJob], folder: Path) -> Iterator[tuple[TrainingJob, Scans]]:
    """Draw one hospital's phantom and prepare its scans for each job."""
    hospital = read_federation(ROOT / "poc" / "federation.toml").hospital[0]
    assert hospital.phantom is not None
    profile = hospital.phantom.model_copy(update={"patients": PATIENTS, "share_without_nodule": 0.0})
    write_hospital(profile, folder / "dicom", randomness=Seeded(1), name="north", workers=2)
    document = {
        "name": "north",
        "organisation": "north",
        "state": str(folder / "state"),
        "split": {"validation": 0, "test": 0},
        "data": [{"kind": "dicom", "path": str(folder / "dicom"), "classes": {"nodule": ["nodule*"]}}],
    }
    site = parse_settings(document, SiteSettings, where="throughput")
    studies = [study for study in open_source(site.data[0]).studies() if study.has_label]
    for job in jobs:
        yield job, Scans(SiteData.prepare(studies, site, job), middle_of(studies[0].read()))


def middle_of(volume: Volume) -> Volume:
    """Give the middle of a scan: a whole one would take minutes on a CPU."""
    _, rows, columns = volume.array.shape
    row, column = (rows - MIDDLE) // 2, (columns - MIDDLE) // 2
    affine = volume.affine.copy()
    affine[:3, 3] = (volume.affine @ [0, row, column, 1])[:3]
    array = np.ascontiguousarray(volume.array[:, row : row + MIDDLE, column : column + MIDDLE])
    return replace(volume, array=array, affine=affine)


def jobs() -> list[TrainingJob]:
    found = []
    for name in JOBS:
        job = read_job(ROOT / "jobs" / f"{name}.toml")
        assert isinstance(job, TrainingJob)
        if isinstance(job.task, MultiTask):
            # The phantom's nodules have no grades.
            task = job.task.model_copy(update={"classes": ("nodule",), "positive": "nodule"})
            job = job.model_copy(update={"task": task})
        found.append(job)
    return found


def runtimes() -> dict[str, Runtime]:
    if not torch.cuda.is_available():
        return {"cpu float32": Runtime()}
    cuda = Runtime("cuda", channels_last=True)
    mixed = replace(cuda, autocast_dtype=torch.bfloat16)
    return {"cuda float32": cuda, "cuda bfloat16": mixed, "cuda compiled": replace(mixed, is_compiled=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {name: {} for name in runtimes()}
    results["threads"] = {"torch": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        for job, scans in scans_for(jobs(), Path(folder)):
            for name, runtime in runtimes().items():
                results[name][job.network.name] = compare(job, scans, runtime)
                arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
