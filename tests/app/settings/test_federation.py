from __future__ import annotations

from pathlib import Path

import pytest

from fedward.errors import SettingsError
from fedward.settings.federation import FederationSettings, read_federation
from fedward.settings.read import parse_settings

ROOT = Path(__file__).parents[3]

SITE = 'name = "{name}"\norganisation = "{name}_hospital"\ndata = [{{ kind = "dicom", path = "dicom" }}]\n'


def hospital(name: str, **changes: object) -> dict[str, object]:
    return {"name": name, "organisation": f"{name}_hospital", "site_file": f"{name}.toml", **changes}


def write(folder: Path, *names: str, extra: str = "") -> Path:
    lines = ['[federation]\nproject = "test"\n']
    for name in names:
        (folder / f"{name}.toml").write_text(SITE.format(name=name) + extra)
        entry = f'name = "{name}"\norganisation = "{name}_hospital"\nsite_file = "{name}.toml"\n'
        lines.append(f"[[hospital]]\n{entry}")
    (folder / "federation.toml").write_text("".join(lines))
    return folder / "federation.toml"


def test_site_files_are_found_from_the_federation_files_own_folder(tmp_path: Path) -> None:
    federation = read_federation(write(tmp_path, "north", "east"))
    assert federation.names == ("north", "east")
    assert [h.site_file for h in federation.hospital] == [tmp_path / "north.toml", tmp_path / "east.toml"]


def test_the_shipped_federation_has_four_phantom_hospitals() -> None:
    federation = read_federation(ROOT / "poc" / "federation.toml")
    assert len(federation.names) == 4
    assert all(hospital.phantom is not None for hospital in federation.hospital)


def test_faults_of_all_site_files_come_together(tmp_path: Path) -> None:
    file = write(tmp_path, "north", "east", "south")
    (tmp_path / "north.toml").write_text(SITE.format(name="north") + "wrong = 1\n")
    (tmp_path / "east.toml").write_text(SITE.format(name="west"))
    (tmp_path / "south.toml").unlink()
    with pytest.raises(SettingsError, match="invalid_settings") as caught:
        read_federation(file)
    assert "wrong: unknown key" in caught.value.detail
    assert "is the site file of west of west_hospital, expected east of east_hospital" in caught.value.detail
    assert "south.toml: there is no such file" in caught.value.detail


def test_a_site_file_brings_no_identity_of_its_own(tmp_path: Path) -> None:
    identity = '[identity]\nproject = "other"\nroot_certificate = "root.pem"\n'
    with pytest.raises(SettingsError, match="invalid_settings") as caught:
        read_federation(write(tmp_path, "north", extra=identity))
    assert "[identity] is written when the federation is provisioned" in caught.value.detail


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"hospital": [hospital("north")]}, "federation: missing"),
        ({"federation": {"project": "p"}, "hospital": []}, "hospital: "),
        ({"federation": {"project": "P/.."}, "hospital": [hospital("north")]}, "federation.project: "),
        ({"federation": {"project": "p", "port": 80}, "hospital": [hospital("north")]}, "federation.port: "),
        ({"federation": {"project": "p"}, "hospital": [hospital("north")] * 2}, "found ['north'] more than once"),
        ({"federation": {"project": "p"}, "hospital": [hospital("server")]}, "no hospital can be named server"),
        ({"federation": {"project": "p"}, "hospital": [hospital("north", path="x")]}, "hospital.0.path: unknown key"),
        (
            {"federation": {"project": "p", "operator": "coordinator@fedward.example"}, "hospital": [hospital("n")]},
            "coordinator and operator must be two persons",
        ),
    ],
    ids=["no federation", "no hospital", "project", "port", "twice", "server", "unknown key", "one person"],
)
def test_a_federation_file_with_a_fault_is_refused(document: dict[str, object], fault: str) -> None:
    with pytest.raises(SettingsError, match="invalid_settings") as caught:
        parse_settings(document, FederationSettings, where="federation.toml")
    assert fault in caught.value.detail
