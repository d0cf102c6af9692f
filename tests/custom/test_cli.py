"""The program as a person runs it: exit codes, explanations, and nothing half-written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_series import write_series
from fedward.cli import output
from fedward.federation.record import JobRecord, SiteOutcome
from fedward_flare.cli import app
from fedward_flare.tables import job_table
from fedward_flare.workdir import claimed
from support import ROOT, shared_data

run = CliRunner()


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["demo"],
        *(["data", name] for name in ("check", "convert", "forget")),
        *(["poc", name] for name in ("up", "status", "down")),
        *(["job", name] for name in ("check", "submit", "export", "list", "watch", "resume", "abort")),
        *(
            ["model", name]
            for name in (
                *("list", "show", "verify", "install", "activate", "calibrate", "rollback"),
                *("release", "propose", "sign", "adopt"),
                "train-alone",
            )
        ),
        *(["privacy", name] for name in ("status", "history", "plan", "verify", "end")),
        *(["audit", name] for name in ("verify", "show", "export", "left")),
        *(["provision", name] for name in ("render", "coordinator", "roster", "release-request", "release-approve")),
        *(["site", name] for name in ("check", "jobs", "approve", "reject")),
        ["infer"],
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = run.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_wrong_usage_ends_with_two() -> None:
    assert run.invoke(app, ["data", "check", "no-such-folder"]).exit_code == 2
    assert run.invoke(app, ["job", "nonsense"]).exit_code == 2


def test_an_empty_folder_is_refused_with_its_code(tmp_path: Path) -> None:
    result = run.invoke(app, ["data", "check", str(tmp_path)])
    assert result.exit_code == 1
    assert "empty_source" in result.output


def test_a_file_that_is_not_a_job_is_refused_with_every_fault(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text('kind = "infer"\nname = "UPPER"\nbogus = 1\n')
    result = run.invoke(app, ["job", "check", str(job)])
    assert result.exit_code == 1
    assert "bogus: unknown key" in result.output
    assert "UPPER" in result.output


def test_a_site_that_would_refuse_a_job_says_why(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('name = "north"\norganisation = "north"\n[[data]]\nkind = "dicom"\npath = "dicom"\n')
    job = str(ROOT / "jobs" / "lung_nodule_segmentation.toml")
    result = run.invoke(app, ["job", "check", job, "--site", str(site), "--json"])
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)["sites"]
    codes = {refusal["code"] for refusal in found["refusals"]}
    assert codes == {"non_private_not_allowed", "too_few_organisations", "invalid_settings"}


def test_a_demo_in_a_used_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    result = run.invoke(app, ["demo", "--workdir", str(tmp_path)])
    assert result.exit_code == 1
    assert "workdir_in_use" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_the_status_of_a_folder_without_a_federation_is_a_sentence(tmp_path: Path) -> None:
    with claimed(tmp_path / "work"):
        pass
    result = run.invoke(app, ["poc", "status", "--workdir", str(tmp_path / "work")])
    assert result.exit_code == 1
    assert result.output == "no federation was made here yet; start one with: fedward poc up\n"


def test_a_server_that_would_steer_the_terminal_is_printed_visibly(capsys: pytest.CaptureFixture[str]) -> None:
    steering = "\x1b[2J\x9b1A"
    record = JobRecord(id="0" * 32, name=f"job{steering}", kind="infer", asked=("north",))
    output.print(job_table(record.with_sites({"north": SiteOutcome(code=f"done{steering}")})))
    assert re.search("[\x1b\x9b]", shown := capsys.readouterr().out) is None
    assert "job\u241b[2J" in shown
    assert "done\u241b[2J" in shown


def test_a_maker_that_looks_like_markup_is_printed_as_it_stands(tmp_path: Path) -> None:
    write_series(tmp_path, edit=lambda _, dataset: setattr(dataset, "Manufacturer", "[/A]"))
    result = run.invoke(app, ["data", "check", str(tmp_path)])
    assert result.exit_code == 0
    assert "[/A]" in result.output


def test_data_check_writes_what_it_prints(tmp_path: Path) -> None:
    series = shared_data("lidc_idri_ct_small") / "LIDC-IDRI-0001" / "dicom"
    result = run.invoke(app, ["data", "check", str(series), "--json", str(tmp_path / "verdicts.json")])
    assert result.exit_code == 0
    (record,) = json.loads((tmp_path / "verdicts.json").read_text())
    assert record["verdict"] == "accepted"
    assert (record["modality"], record["maker"], record["shape"]) == ("CT", "GE", [16, 512, 512])
    assert record["spacing_mm"] == pytest.approx([2.5, 0.703125, 0.703125])


def test_the_program_starts_without_loading_a_network() -> None:
    code = "import sys, fedward_flare.cli; print(sorted({'torch', 'monai', 'nvflare', 'pydicom'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_wheel_carries_jobs_poc_and_provisioning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    job = site / "fedward_flare" / "share" / "jobs" / "inference.toml"
    empty = tmp_path / "empty"
    empty.mkdir()
    program = "import fedward_flare.cli as cli; print(cli.__file__); cli.app()"
    done = subprocess.run(
        [sys.executable, "-c", program, "job", "check", str(job)],
        cwd=empty,
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.splitlines()[0]).is_relative_to(site)
    assert "a valid job of kind infer" in done.stdout
    assert (site / "fedward_flare" / "share" / "poc" / "federation.toml").is_file()
    assert (site / "fedward_flare" / "share" / "provision" / "project.yml").is_file()
