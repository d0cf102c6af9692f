"""A release officer who is another person than the coordinator: two folders go between them, and neither is trusted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.errors import FedwardError
from fedward.files import write_bytes, write_text
from fedward.identity.document import sign_job
from fedward.identity.release_identity import make_release_identity
from fedward.release.package import MODEL, PASSPORT, SIGNATURE, read_parts, verify_release
from fedward.settings.job import StartFrom, TrainingJob
from fedward_flare.cli import app
from fedward_flare.jobs import DOCUMENT
from fedward_flare.proposals import RELEASES, adopt, fetched, propose, read_officer, sign_proposal
from fedward_flare.releases import SIGNED, document_of
from fedward_flare.results import RECORD, RESULT, FinishedJob, keep_result
from fedward_flare.signed import encode_signed_job
from fedward_flare.workdir import Workdir
from gate_cases import SITES, answer, finished, gate_of
from trust_cases import Authority

OFFICERS = ("release.key", "release.crt", "rootCA.pem", "coordinator.crt")


@pytest.fixture
def desk(workdir: Workdir, tmp_path: Path) -> Workdir:
    """The coordinator's folder, without the release key."""
    shutil.copytree(workdir.root, tmp_path / "desk", symlinks=True)
    desk = Workdir(tmp_path / "desk")
    for folder in (desk.coordinator / "jobs", desk.releases):
        shutil.rmtree(folder, ignore_errors=True)
    for key in desk.root.rglob("release.*"):
        key.unlink()
    return desk


@pytest.fixture
def officer(workdir: Workdir, tmp_path: Path) -> Path:
    """The officer's folder: the release key, and two certificates of others."""
    startup, folder = workdir.kit(workdir.state().coordinator) / "startup", tmp_path / "officer"
    sources = (workdir.coordinator / "release.key", workdir.coordinator / "release.crt")
    for name, source in zip(OFFICERS, (*sources, startup / "rootCA.pem", startup / "client.crt"), strict=True):
        write_bytes(folder / name, source.read_bytes())
    return folder


def run(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["model", *map(str, words)])
    return done.exit_code, done.output


def typed(*words: str | Path) -> str:
    code, text = run(*words)
    assert code == 0, text
    return text


def released(trained: FinishedJob, desk: Workdir, officer: Path, proposal: Path, *, without_gate: bool = False) -> Path:
    """Take a model all the way with the three commands; give its folder at the coordinator."""
    typed("propose", trained.id[:8], "--out", proposal, "--workdir", desk.root)
    said = typed("sign", proposal, "--officer", officer, *(["--without-gate"] if without_gate else []))
    signed = Path(said.splitlines()[-1].removeprefix("signed: "))
    return Path(typed("adopt", signed, "--workdir", desk.root).strip())


def refused(code: str, proposal: Path, officer: Path) -> str:
    with pytest.raises(FedwardError, match=code) as caught:
        sign_proposal(proposal, read_officer(officer))
    assert not (officer / RELEASES).exists()
    return caught.value.detail


def test_officer_and_coordinator_release_without_either_having_the_others_key(
    job: TrainingJob, desk: Workdir, officer: Path, tmp_path: Path
) -> None:
    folder = released(finished(job, desk), desk, officer, tmp_path / "proposal")
    assert folder == desk.releases / "tiny-1"
    assert verify_release(read_parts(folder)).passport.gate.outcome == "first_release"
    assert not [path for path in desk.root.rglob("release.key") if "kits" not in path.parts]
    secret = [path for path in (tmp_path / "proposal").rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]
    assert secret == []
    assert {path.name for path in officer.iterdir()} == {*OFFICERS, RELEASES}


def test_the_coordinator_who_has_no_release_key_is_told_the_way(job: TrainingJob, desk: Workdir) -> None:
    from fedward_flare.releases import release_job

    with pytest.raises(FedwardError, match="unreadable_key") as caught:
        release_job(finished(job, desk), desk)
    assert "fedward model propose" in caught.value.detail


def test_the_next_release_needs_the_gate_at_the_officer_too(
    job: TrainingJob, desk: Workdir, officer: Path, tmp_path: Path
) -> None:
    released(finished(job, desk), desk, officer, tmp_path / "first")
    second = finished(job, desk)
    typed("propose", second.id, "--out", tmp_path / "no-gate", "--workdir", desk.root)
    code, text = run("sign", tmp_path / "no-gate", "--officer", officer)
    assert (code, "gate_missing" in text) == (1, True)
    gate = gate_of(second, desk)
    answer(gate, desk, south="not_shown")
    typed("propose", second.id, "--out", tmp_path / "blocked", "--workdir", desk.root)
    code, text = run("sign", tmp_path / "blocked", "--officer", officer)
    assert (code, "gate_blocked" in text, "south not_shown" in text) == (1, True, True)
    answer(gate, desk)
    passport = verify_release(read_parts(released(second, desk, officer, tmp_path / "passed"))).passport
    assert (passport.number, passport.gate.outcome, passport.gate.attempts) == (2, "passed", 1)
    assert passport.gate.sites == dict.fromkeys(SITES, "non_inferior")


def test_a_coordinator_who_hides_the_earlier_release_does_not_get_around_the_gate(
    job: TrainingJob, desk: Workdir, officer: Path, tmp_path: Path
) -> None:
    released(finished(job, desk), desk, officer, tmp_path / "first")
    shutil.rmtree(desk.releases)
    typed("propose", finished(job, desk).id, "--out", tmp_path / "second", "--workdir", desk.root)
    code, text = run("sign", tmp_path / "second", "--officer", officer)
    assert (code, "gate_missing" in text) == (1, True)


def test_an_officer_with_a_new_folder_goes_on_from_what_the_proposal_brings(
    job: TrainingJob, desk: Workdir, officer: Path, tmp_path: Path
) -> None:
    first = released(finished(job, desk), desk, officer, tmp_path / "first")
    shutil.rmtree(officer / RELEASES)
    warm = job.model_copy(update={"start_from": StartFrom(name="tiny", number=1)})
    second = released(finished(warm, desk), desk, officer, tmp_path / "second", without_gate=True)
    passport = verify_release(read_parts(second)).passport
    assert (passport.number, passport.gate.outcome) == (2, "without_gate")
    assert passport.stands_on == verify_release(read_parts(first)).passport.descent()


@pytest.fixture
def proposal(job: TrainingJob, desk: Workdir, tmp_path: Path) -> Workdir:
    return Workdir(propose(finished(job, desk), desk, tmp_path / "proposal"))


def trained(proposal: Workdir) -> Path:
    (folder,) = (proposal.coordinator / "jobs").iterdir()
    return folder


def test_a_model_that_the_record_does_not_name_is_not_signed(proposal: Workdir, officer: Path) -> None:
    model = trained(proposal) / MODEL
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    refused("altered_model", proposal.root, officer)


@pytest.mark.parametrize(("field", "value"), [("status", "failed"), ("id", "0" * 32), ("weights_sha256", None)])
def test_a_record_of_no_completed_job_is_not_signed(
    field: str, value: object, proposal: Workdir, officer: Path
) -> None:
    path = trained(proposal) / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    refused("altered_model" if value is None else "unfinished_job", proposal.root, officer)


def test_a_job_that_another_than_the_coordinator_signed_is_refused(
    desk: Workdir, proposal: Workdir, officer: Path
) -> None:
    folder = trained(proposal)
    record = json.loads((folder / RECORD).read_text())
    document = document_of(FinishedJob(folder.name, record, "", folder, None), proposal)
    startup = desk.kit("north") / "startup"
    key, certificate = (startup / "client.key").read_bytes(), (startup / "client.crt").read_bytes()
    write_text(folder / SIGNED, encode_signed_job(sign_job(document, private_key=key, certificate=certificate)))
    refused("unlisted_signer", proposal.root, officer)


def test_a_document_beside_another_signed_one_is_refused(
    job: TrainingJob, desk: Workdir, proposal: Workdir, officer: Path
) -> None:
    other = desk.job(finished(job, desk).id)
    shutil.copyfile(other / DOCUMENT, trained(proposal) / DOCUMENT)
    refused("bad_signature", proposal.root, officer)
    (trained(proposal) / SIGNED).unlink()
    refused("missing_part", proposal.root, officer)


def test_another_job_than_a_gate_of_this_model_is_refused(
    job: TrainingJob, desk: Workdir, proposal: Workdir, officer: Path
) -> None:
    other = finished(job, desk)
    gate = gate_of(other, desk).document.id
    shutil.copytree(desk.job(gate), proposal.job(gate))
    assert gate in refused("unfinished_job", proposal.root, officer)
    shutil.copytree(other.folder, proposal.job(other.id))
    assert "2 trained jobs" in refused("unfinished_job", proposal.root, officer)


def test_an_earlier_release_of_another_key_is_refused(
    job: TrainingJob, desk: Workdir, officer: Path, tmp_path: Path
) -> None:
    released(finished(job, desk), desk, officer, tmp_path / "first")
    shutil.rmtree(officer / RELEASES)
    second = Workdir(propose(finished(job, desk), desk, tmp_path / "second"))
    (second.releases / "tiny-1").rename(second.releases / "tiny-7")
    refused("altered_passport", second.root, officer)
    (second.releases / "tiny-7" / MODEL).write_bytes(b"another")
    refused("altered_model", second.root, officer)


def test_a_release_certificate_of_another_root_signs_nothing(proposal: Workdir, desk: Workdir, officer: Path) -> None:
    root = Authority()
    key, certificate = make_release_identity(desk.state().project, root.key, root.certificate)
    write_bytes(officer / "release.key", key)
    write_bytes(officer / "release.crt", certificate)
    refused("untrusted_signer", proposal.root, officer)
    key, certificate = make_release_identity("another", root.key, root.certificate)
    write_bytes(officer / "release.crt", certificate)
    refused("wrong_project", proposal.root, officer)


@pytest.mark.parametrize("name", OFFICERS)
def test_what_the_officers_folder_lacks_is_named(name: str, proposal: Workdir, officer: Path) -> None:
    (officer / name).unlink()
    code, text = run("sign", proposal.root, "--officer", officer)
    assert (code, name in text) == (1, True)


def test_a_login_certificate_is_no_release_certificate(proposal: Workdir, officer: Path) -> None:
    shutil.copyfile(officer / "coordinator.crt", officer / "release.crt")
    refused("wrong_name", proposal.root, officer)


def test_the_coordinator_adopts_only_what_the_release_key_signed_of_its_own_job(
    job: TrainingJob, desk: Workdir, officer: Path, proposal: Workdir, tmp_path: Path
) -> None:
    sign_proposal(proposal.root, read_officer(officer))
    signed = officer / RELEASES / "tiny-1"
    for name in (MODEL, PASSPORT, SIGNATURE):
        altered = shutil.copytree(signed, tmp_path / f"altered-{name}")
        (altered / name).write_bytes((altered / name).read_bytes().replace(b"tiny", b"huge") + b" ")
        with pytest.raises(FedwardError, match="altered"):
            adopt(altered, desk)
    jobs = trained(Workdir(proposal.root)).name
    desk.job(jobs).rename(tmp_path / "away")
    with pytest.raises(FedwardError, match="unknown_job"):
        adopt(signed, desk)
    (tmp_path / "away").rename(desk.job(jobs))
    record = desk.job(jobs) / RECORD
    honest = record.read_text()
    record.write_text(json.dumps({**json.loads(honest), "weights_sha256": "0" * 64}))
    with pytest.raises(FedwardError, match="altered_model"):
        adopt(signed, desk)
    record.write_text(honest)
    assert not desk.releases.exists()
    assert adopt(signed, desk) == adopt(signed, desk) == desk.releases / "tiny-1"


def test_the_coordinator_adopts_no_release_of_another_root_and_no_older_one(
    desk: Workdir, officer: Path, proposal: Workdir
) -> None:
    sign_proposal(proposal.root, read_officer(officer))
    shutil.move(officer / RELEASES / "tiny-1", officer / "kept")
    sign_proposal(proposal.root, read_officer(officer))
    adopt(officer / "kept", desk)
    with pytest.raises(FedwardError, match="older_release"):
        adopt(officer / RELEASES / "tiny-1", desk)
    root = Authority()
    key, certificate = make_release_identity(desk.state().project, root.key, root.certificate)
    write_bytes(officer / "release.key", key)
    write_bytes(officer / "release.crt", certificate)
    foreign = desk.kit(desk.state().coordinator) / "startup" / "rootCA.pem"
    honest = foreign.read_bytes()
    foreign.write_bytes((officer / "release.crt").read_bytes())
    with pytest.raises(FedwardError, match="untrusted"):
        adopt(officer / "kept", desk)
    foreign.write_bytes(honest)


def test_the_beginning_of_several_jobs_names_none_also_where_one_alone_was_fetched(
    job: TrainingJob, desk: Workdir
) -> None:
    one = finished(job, desk)
    assert fetched(one.id[:8], desk) is not None
    desk.job(one.id[:8] + 24 * "0").mkdir()
    assert fetched(one.id[:8], desk) is None
    assert fetched(one.id, desk) is not None
    assert fetched("", desk) is None


def test_a_training_that_was_half_fetched_is_fetched_again(job: TrainingJob, desk: Workdir, tmp_path: Path) -> None:
    one = finished(job, desk)
    shutil.copytree(one.folder, tmp_path / "workspace" / RESULT)
    (one.folder / MODEL).unlink()
    assert fetched(one.id, desk) is None
    (one.folder / RECORD).unlink()
    (one.folder / MODEL / "in-the-way").mkdir(parents=True)
    with pytest.raises(FedwardError, match="cannot_write"):
        keep_result(tmp_path, desk, job_id=one.id, status="FINISHED:COMPLETED")
    assert not (one.folder / RECORD).exists()
    shutil.rmtree(one.folder / MODEL)
    keep_result(tmp_path, desk, job_id=one.id, status="FINISHED:COMPLETED")
    assert fetched(one.id, desk) is not None


def test_a_folder_that_is_there_is_not_written_over(job: TrainingJob, desk: Workdir, proposal: Workdir) -> None:
    code, text = run("propose", trained(proposal).name, "--out", proposal.root, "--workdir", desk.root)
    assert (code, "workdir_in_use" in text) == (1, True)


def test_a_gate_leaves_no_model_to_propose(job: TrainingJob, desk: Workdir, tmp_path: Path) -> None:
    gate = gate_of(finished(job, desk), desk)
    answer(gate, desk)
    code, text = run("propose", gate.document.id, "--out", tmp_path / "gate", "--workdir", desk.root)
    assert (code, "unfinished_job" in text, (tmp_path / "gate").exists()) == (1, True, False)
