"""A provisioned federation that does not run, and a training job for it."""

from __future__ import annotations

import pytest

from fedward.settings.federation import FederationSettings, HospitalEntry, Project
from fedward.settings.job import Exchange, Input, Segmentation, Sites, Training, TrainingJob, UNet3D, Window
from fedward_flare import poc
from fedward_flare.folders import render_coordinator, render_hospitals
from fedward_flare.kits import provision
from fedward_flare.workdir import FederationState, Workdir, claimed

SITE_FILE = """
name = "{name}"
organisation = "{name}_hospital"
data = [{{ kind = "dicom", path = "dicom" }}]
"""


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> FederationSettings:
    folder = tmp_path_factory.mktemp("sites")
    hospitals = []
    for name in ("north", "east", "south"):
        (folder / f"{name}.toml").write_text(SITE_FILE.format(name=name))
        hospitals.append(HospitalEntry(name=name, organisation=f"{name}_hospital", site_file=folder / f"{name}.toml"))
    return FederationSettings(federation=Project(project="unit_tests"), hospital=tuple(hospitals))


@pytest.fixture(scope="session")
def workdir(federation: FederationSettings, tmp_path_factory: pytest.TempPathFactory) -> Workdir:
    with claimed(tmp_path_factory.mktemp("workdir")) as workdir:
        project = federation.federation
        state = FederationState(
            project=project.project,
            coordinator=project.coordinator,
            operator=project.operator,
            hospitals=federation.names,
            port=poc.choose_port(None),
        )
        workdir.write_state(state)
        provision(federation, workdir, port=state.port, builder={})
        render_hospitals(federation, workdir)
        render_coordinator(workdir)
    return workdir


@pytest.fixture
def job() -> TrainingJob:
    return TrainingJob(
        kind="train",
        name="tiny",
        sites=Sites(minimum=2, deadline_s=2),
        input=Input(modality="CT", spacing_mm=(2, 2, 2), intensity=Window(kind="window", low=-1000, high=400)),
        task=Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice"),
        network=UNet3D(name="unet3d", channels=(4, 8)),
        training=Training(rounds=2, steps_per_round=2, batch_size=1, patch_size=(16, 16, 16), learning_rate=1e-3),
        exchange=Exchange(mode="plain", max_update_norm=10.0),
    )
