"""The multi-task network on phantoms with real nodules' forms: outline, malignancy and diameter.

Four hospitals, one scanners' maker each, whose patients have the nodules that LIDC-IDRI's readers outlined and rated on
that maker's scanners; no real patient stands behind two phantoms. Federated through the real local federation, in plain
mode and under the encrypted sum, each with and without patient-level privacy; pooled and at each hospital alone, with
as many steps as without privacy. All are scored on the held-out patients of all hospitals. The data folder holds
scans.csv, readings.csv and lidc_xml.tar.xz.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from federated_segmentation import ROOT, write_split_key
from numpy.typing import NDArray
from privacy import noise_multiplier
from safetensors.numpy import load_file

from fedward.evaluation.classification import auc
from fedward.evaluation.local_only import prepare_worker, runtime_of, train_alone
from fedward.imaging.cases import SiteData
from fedward.imaging.centred import cut_around, lesion_centres, lesion_diameter_mm, lesion_is_positive
from fedward.imaging.patches import TrainingCase
from fedward.imaging.phantom.hospital import write_hospital
from fedward.imaging.phantom.lidc import RealNodule, read_real_nodules
from fedward.models.networks import build
from fedward.models.runtime import evaluation_network
from fedward.models.weights import flattened, layout_of
from fedward.randomness import Seeded
from fedward.settings.federation import FederationSettings, HospitalEntry, Project, read_federation
from fedward.settings.job import ExchangeMode, TrainingJob
from fedward.settings.read import parse_settings
from fedward.settings.site import SiteSettings, read_site_settings
from fedward.settings.tasks import MultiTask
from fedward_flare import poc
from fedward_flare.jobs import prepare, read_job
from fedward_flare.session import Session
from fedward_flare.workdir import Workdir, claimed

#: Patients of each hospital; the demo's scanners and anatomy, everybody with at least one nodule.
PATIENTS = {"north": 24, "east": 22, "south": 18, "west": 18}

#: What a whole private training may cost a patient, and its rounds and steps.
EPSILON, DELTA = 8.0, 1e-3
PRIVATE_ROUNDS, PRIVATE_STEPS = 5, 4

#: The federated trainings: the exchange, and whether with privacy.
FEDERATED: Sequence[tuple[ExchangeMode, bool]] = (
    ("plain", False), ("secure-sum", False), ("plain", True), ("secure-sum", True),
)  # fmt: skip

SITE_FILE = """
name = "{name}"
organisation = "{name}"
state = "state"
[split]
validation = 0.0
test = 0.35
[bounds]
networks = ["multitask_densenet3d"]
exchange_modes = ["secure-sum", "plain"]
min_patients = 5
[privacy]
allow_non_private = true
epsilon = 100.0
delta = 1e-3
min_noise_multiplier = 0.1
[compute]
threads = 1
precision = "float32"
"""

SOURCE = """
[[data]]
kind = "dicom"
path = "{folder}"
[data.classes]
benign = ["*benign"]
malignant = ["*malignant"]
"""


def base_job() -> TrainingJob:
    """The multi-task job with a smaller patch, 32 x 40 x 40 mm around nodules of at most 20 mm, and faster learning."""
    job = read_job(ROOT / "jobs" / "lung_nodule_multitask.toml")
    document = job.model_dump(mode="json", exclude_defaults=True) | {"kind": "train"}
    document["input"]["spacing_mm"] = [2.0, 1.25, 1.25]
    document["network"]["dropout"] = 0.0
    document["training"] |= {
        "rounds": 10,
        "steps_per_round": 40,
        "patch_size": [16, 32, 32],
        "positive_share": 1.0,
        "learning_rate": 8e-3,
    }
    return parse_settings(document, TrainingJob, where="real_shapes")


def variant(job: TrainingJob, mode: ExchangeMode, *, private: bool) -> TrainingJob:
    document = job.model_dump(mode="json", exclude_defaults=True) | {"kind": "train"}
    document["exchange"] |= {"mode": mode}
    if private:
        document["training"] |= {"rounds": PRIVATE_ROUNDS, "steps_per_round": PRIVATE_STEPS, "warmup_steps": 0}
        document["privacy"] = {
            "sampling_rate": 1.0,
            "noise_multiplier": 1.0,
            "clip_norm": 0.5,
            "expected_patients": 13,
            "crops_per_patient": 2,
        }
        unscaled = parse_settings(document, TrainingJob, where="real_shapes")
        document["privacy"]["noise_multiplier"] = noise_multiplier(unscaled, EPSILON, DELTA)
    return parse_settings(document, TrainingJob, where="real_shapes")


def variants(job: TrainingJob) -> Mapping[str, TrainingJob]:
    return {
        f"{mode}, {'private' if private else 'not private'}": variant(job, mode, private=private)
        for mode, private in FEDERATED
    }


def run(data: Path, folder: Path) -> dict[str, Any]:
    """Do all of it below ``folder`` and give the figures."""
    started_s = time.monotonic()
    job = base_job()
    nodules = read_real_nodules(data)
    for name in PATIENTS:
        (folder / f"{name}.toml").write_text(site_file(name, ["dicom"]))
    entries = tuple(HospitalEntry(name=n, organisation=n, site_file=folder / f"{n}.toml") for n in PATIENTS)
    federation = FederationSettings(federation=Project(project="benchmark"), hospital=entries)
    with claimed(folder / "federation") as workdir:
        write_phantoms(nodules, workdir)
        with poc.running(federation, workdir) as session:
            trained = {name: train_federated(one, session, workdir) for name, one in variants(job).items()}
        sites = tuple(read_site_settings(workdir.site_file(name)) for name in PATIENTS)
        pool = pooled_site(folder / "pool", sites)
        with multiprocessing.get_context("spawn").Pool(os.cpu_count(), initializer=prepare_worker) as workers:
            pooled = workers.apply_async(train_and_score, (pool, sites, job))
            local = {site.name: workers.apply_async(train_and_score, (site, sites, job)) for site in sites}
            scored = {name: workers.apply_async(score, (weights, sites, job)) for name, (weights, _) in trained.items()}
            result: dict[str, Any] = {
                "pooled": pooled.get(),
                "federated": {name: scored[name].get() | {"seconds": trained[name][1]} for name in trained},
                "local": {name: alone.get() for name, alone in local.items()},
            }
    result["steps_per_hospital"] = {"not private": job.training.total_steps, "private": PRIVATE_ROUNDS * PRIVATE_STEPS}
    result["privacy"] = {"epsilon": EPSILON, "delta": DELTA}
    result["patients"] = PATIENTS
    result["seconds"] = time.monotonic() - started_s
    return result


def site_file(name: str, folders: Sequence[object]) -> str:
    return SITE_FILE.format(name=name) + "".join(SOURCE.format(folder=folder) for folder in folders)


def write_phantoms(nodules: Sequence[RealNodule], workdir: Workdir) -> None:
    """Draw every hospital's archive, and give all one public split key."""
    for hospital in read_federation(ROOT / "poc" / "federation.toml").hospital:
        assert hospital.phantom is not None
        changes = {"patients": PATIENTS[hospital.name], "share_without_nodule": 0.0}
        folder = workdir.hospital(hospital.name)
        write_hospital(
            hospital.phantom.model_copy(update=changes),
            folder / "dicom",
            randomness=Seeded(1),
            name=hospital.name,
            nodules=nodules,
            workers=os.cpu_count() or 1,
        )
        write_split_key(folder / "state")


def pooled_site(folder: Path, sites: Sequence[SiteSettings]) -> SiteSettings:
    write_split_key(folder / "state")
    folders = [source.path for site in sites for source in site.data if source.kind == "dicom"]
    (folder / "site.toml").write_text(site_file("pool", folders))
    return read_site_settings(folder / "site.toml")


def train_federated(job: TrainingJob, session: Session, workdir: Workdir) -> tuple[NDArray[np.float32], float]:
    """Run a job; give the released weights and the seconds that it took."""
    started_s = time.monotonic()
    finished = session.watch(session.submit(prepare(job, workdir)))
    record = finished.record
    if record.status != "completed" or finished.model is None or any(r.failures for r in record.rounds):
        raise SystemExit(f"the federation did not do its rounds: {record}")
    weights = flattened(layout_of(build(job.network, task=job.task)), load_file(finished.model))
    return weights, time.monotonic() - started_s


def train_and_score(site: SiteSettings, sites: Sequence[SiteSettings], job: TrainingJob) -> dict[str, Any]:
    return score(train_alone(site, job).weights, sites, job)


def score(weights: NDArray[np.float32], sites: Sequence[SiteSettings], job: TrainingJob) -> dict[str, Any]:
    """Give the mean Dice of the lesions' patches, the AUC of malignancy, and the mean error of the diameters in mm."""
    runtime = runtime_of(job, sites[0].compute)
    module = evaluation_network(job.network, weights, task=job.task, runtime=runtime)
    rows = np.concatenate([lesion_rows(module, site, job) for site in sites])
    dice, probability, is_malignant, found_mm, true_mm = rows.T
    return {
        "dice": float(dice.mean()),
        "malignancy_auc": auc(probability, is_malignant > 0),
        "diameter_error_mm": float(np.abs(found_mm - true_mm).mean()),
        "lesions": len(rows),
        "malignant": int(is_malignant.sum()),
        "malignancy_auc_of_true_diameter": auc(true_mm, is_malignant > 0),
        "diameter_error_mm_of_the_mean": float(np.abs(true_mm - true_mm.mean()).mean()),
    }


def lesion_rows(module: torch.nn.Module, site: SiteSettings, job: TrainingJob) -> NDArray[np.float64]:
    """Give of each held-out lesion: Dice, probability and truth of malignancy, found and true diameter in mm."""
    rows = []
    for case in SiteData.open(site, job, parts=["test"]).test:
        prepared = case.cache.training_case(case.key, mapped=False)
        for lesion, centre in enumerate(lesion_centres(prepared)):
            rows.append(one_row(module, prepared, lesion, centre, job))
    return np.array(rows).reshape(-1, 5)


def one_row(
    module: torch.nn.Module, case: TrainingCase, lesion: int, centre: tuple[int, int, int], job: TrainingJob
) -> list[float]:
    assert isinstance(job.task, MultiTask)
    image, label = (cut_around(array, centre, job.training.patch_size) for array in (case.image, case.label))
    with torch.inference_mode():
        answer = module(torch.from_numpy(image.astype(np.float32))[None, None])
    marked, truth = answer.segmentation[0].argmax(dim=0).numpy() > 0, label > 0
    return [
        2 * float((marked & truth).sum()) / float(marked.sum() + truth.sum()),
        float(torch.sigmoid(answer.malignancy.double())[0]),
        float(lesion_is_positive(case, lesion, job.task)),
        float(answer.diameter_mm[0]),
        lesion_diameter_mm(case, lesion, job.input.spacing_mm),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "lidc_idri_annotations")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"there is no folder {arguments.data}; name the data set's folder with --data")
    with tempfile.TemporaryDirectory() as name:
        result = run(arguments.data, Path(name))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
