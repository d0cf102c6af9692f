"""The job files that ship with fedward are what a coordinator can submit."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedward.errors import SettingsError
from fedward.identity.inspection import nobodys_fingerprint
from fedward.settings.admission import refusals
from fedward.settings.federation import FederationSettings, read_federation
from fedward.settings.site import Identity, PeerHospital, SiteSettings, read_site_settings
from fedward_flare.jobs import read_job
from support import ROOT

JOBS = sorted((ROOT / "jobs").glob("*.toml"))
LUNG = ROOT / "jobs" / "lung_nodule_segmentation.toml"


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_file_is_valid_and_named_after_its_file_or_kind(path: Path) -> None:
    assert read_job(path).name == path.stem


def with_roster(site: SiteSettings, federation: FederationSettings) -> SiteSettings:
    """Give a site file as the local federation renders it: with the hospitals in its roster."""
    peers = tuple(
        PeerHospital(name=one.name, organisation=one.organisation, fingerprint=nobodys_fingerprint(number))
        for number, one in enumerate(federation.hospital)
    )
    identity = Identity(project=federation.federation.project, root_certificate=Path("root.pem"), hospitals=peers)
    return site.model_copy(update={"identity": identity})


@pytest.mark.parametrize(
    "name", ["lung_nodule_segmentation", "lung_nodule_classification", "publish", "inference", "evaluation"]
)
def test_every_hospital_of_the_demo_takes_part_in_its_jobs(name: str) -> None:
    job = read_job(ROOT / "jobs" / f"{name}.toml")
    federation = read_federation(ROOT / "poc" / "federation.toml")
    for hospital in federation.hospital:
        site = with_roster(read_site_settings(hospital.site_file), federation)
        assert refusals(job, sites=federation.names, site=site) == ()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "unet3d"', 'name = "os.system"', "network.name"),
        ('name = "lung_nodule_segmentation"', 'name = "../../etc/passwd"', "name"),
        ('kind = "train"', 'kind = "train"\npath = "/etc/passwd"', "path: unknown key"),
        ("[network]", '[network]\nclass_path = "torch.nn.Linear"', "class_path: unknown key"),
    ],
)
def test_a_job_that_names_a_class_or_a_path_is_refused(tmp_path: Path, old: str, new: str, fault: str) -> None:
    text = LUNG.read_text()
    assert old in text
    job = tmp_path / "job.toml"
    job.write_text(text.replace(old, new, 1))
    with pytest.raises(SettingsError, match="invalid_settings") as refused:
        read_job(job)
    assert fault in refused.value.detail


def test_all_faults_of_a_job_are_reported_at_once(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    text = LUNG.read_text().replace("[training]", "[training]\nlearning_rte = 1", 1)
    job.write_text(text.replace('measure = "lesion_dice"', 'measure = "dise"', 1) + '\nbogus = "x"\n')
    with pytest.raises(SettingsError, match="invalid_settings") as refused:
        read_job(job)
    for fault in ("learning_rte: unknown key", "measure", "bogus: unknown key"):
        assert fault in refused.value.detail
