"""The whole story on one machine: hospitals, training, release, inference, and what the federation was worth."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedward.errors import FederationError
from fedward.files import write_text
from fedward.settings.federation import FederationSettings, read_federation
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings, read_site_settings
from fedward_flare.jobs import prepare, read_job
from fedward_flare.phantoms import make_phantoms
from fedward_flare.poc import running
from fedward_flare.releases import keep_document, release_job
from fedward_flare.results import FinishedJob
from fedward_flare.session import Session
from fedward_flare.share import shared
from fedward_flare.tables import live
from fedward_flare.workdir import Workdir, claimed

TRAINING, PRIVATE = "lung_nodule_segmentation.toml", "lung_nodule_private.toml"
INFERENCE, PUBLISH = "inference.toml", "publish.toml"
SUMMARY = "summary.json"

_WARNING = (
    "warning: this job is not differentially private; a dozen patients a hospital cannot carry a small epsilon, and "
    "only a phantom's site file should allow it (allow_non_private)"
)


@dataclass(frozen=True)
class Demo:
    """One run of the demo.

    Attributes:
        workdir: Where.
        federation: The hospitals.
        seed: Of the phantoms and the bootstrap.
        main_job: The job file whose model is released.
        console: Tells about it.
    """

    workdir: Workdir
    federation: FederationSettings
    seed: int
    main_job: str
    console: Console

    def tell(self, text: str) -> None:
        """Print one line of the story."""
        self.console.print(f"  {text}", markup=False)

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """Print a chapter's title and, at its end, how long it took."""
        self.console.print(title, style="bold")
        started_s = time.monotonic()
        yield
        self.console.print(f"  {time.monotonic() - started_s:.0f} s", style="dim")


def run_demo(root: Path, *, seed: int, private: bool, console: Console) -> dict[str, Any]:
    """Tell the whole story in the new or empty folder ``root`` and give what ``summary.json`` holds.

    With ``private`` the released model is trained under differential privacy. Everything that it starts has ended when
    it returns or raises, also after an interrupt.

    Raises:
        FederationError: the folder is in use or holds an earlier run, or a job failed.
    """
    started_s = time.monotonic()
    federation = read_federation(shared("poc", "federation.toml"))
    _require_new(root)
    with claimed(root) as workdir:
        demo = Demo(workdir, federation, seed, PRIVATE if private else TRAINING, console)
        summary = _story(demo)
        summary["seconds"] = round(time.monotonic() - started_s, 1)
        write_text(workdir.root / SUMMARY, json.dumps(summary, indent=2) + "\n")
    _print_summary(summary, workdir, console)
    return summary


def _require_new(root: Path) -> None:
    if root.is_dir() and any(path.name != ".lock" for path in root.iterdir()):
        raise FederationError(
            "workdir_in_use",
            f"{root} is not empty: it may hold an earlier demo. Remove it, or name another folder with --workdir DIR",
        )


def _story(demo: Demo) -> dict[str, Any]:
    from fedward_flare.comparison import comparing

    workdir, names = demo.workdir, demo.federation.names
    with demo.chapter("1/7 Four phantom hospitals: DICOM of thorax CT with lung nodules"):
        _make_hospitals(demo)
    with running(demo.federation, workdir, progress=demo.tell) as session:
        with demo.chapter("2/7 Federated training: every hospital on its own images"):
            job = _training_job(demo.main_job)
            if job.privacy is None:
                demo.tell(_WARNING)
            trained = _run_job(demo, session, demo.main_job)
        sites = [read_site_settings(workdir.site_file(name)) for name in names]
        with comparing(sites, job) as comparison:
            with demo.chapter("3/7 Release: signed by the coordinator, verified and installed by every hospital"):
                release = release_job(trained, workdir)
                demo.tell(f"{release.name} is signed")
                _run_job(demo, session, PUBLISH, release=release)
            with demo.chapter("4/7 Inference at every hospital, on patients that no training has seen"):
                _run_job(demo, session, INFERENCE)
            with demo.chapter("5/7 Privacy: what the ledgers say, and when they refuse"):
                privacy = private_story(demo, session, trained, sites)
            with demo.chapter("6/7 Comparison: what would each hospital have alone, after the same steps?"):
                figures = comparison.finish(
                    _weights(release),
                    seed=demo.seed,
                    progress=lambda done, total: demo.tell(f"{done} of {total} models scored on all held-out patients"),
                )
                if privacy["dice"] is None:
                    privacy["dice"] = figures["global_dice"]
    reports = {site.name: str(site.state / "reports" / release.name) for site in sites}
    return {
        **figures,
        "privacy": privacy,
        "rounds": len(trained.record.rounds),
        "best_round": trained.record.best_round,
        "steps_per_hospital": job.training.total_steps,
        "seed": demo.seed,
        "release": str(release),
        "reports": reports,
        "tensorboard": str(workdir.tensorboard),
    }


def _make_hospitals(demo: Demo) -> None:
    from fedward.cli import progress_bar

    for hospital in demo.federation.hospital:
        with progress_bar(hospital.name) as show:
            one = demo.federation.model_copy(update={"hospital": (hospital,)})
            make_phantoms(one, demo.workdir, seed=demo.seed, progress=_without_name(show))
        if hospital.phantom is not None:
            scanner = hospital.phantom.scanner
            demo.tell(f"{hospital.name}: {hospital.phantom.patients} patients, {scanner.maker} {scanner.model}")


def _without_name(show: Callable[[int, int], None]) -> Callable[[str, int, int], None]:
    return lambda _, done, total: show(done, total)


def private_story(demo: Demo, session: Session, trained: FinishedJob, sites: Sequence[SiteSettings]) -> dict[str, Any]:
    """Run the private job and score its model, unless it was the main one; then ask for more than the cap bears.

    Args:
        demo: The run.
        session: The running federation.
        trained: The main job.
        sites: The hospitals.

    Returns:
        The summary's part; its ``dice`` is None where the main job was the private one.

    Raises:
        FederationError: ``job_failed``; also when a hospital does not refuse.
    """
    from fedward_flare.comparison import score_model

    dice = None
    if demo.main_job != PRIVATE:
        trained = _run_job(demo, session, PRIVATE)
        dice = score_model(trained.model.read_bytes() if trained.model else b"", sites, _training_job(PRIVATE)).score
    spent = trained.record.rounds[-1].privacy
    for name, one in sorted(spent.items()):
        demo.tell(f"{name}: epsilon {one.epsilon:.2f} at delta {one.delta:g} for every patient who trained")
    if dice is not None:
        demo.tell(f"lesion Dice of the private model on the held-out scans: {dice:.3f}")
    demo.tell("the same job once more:")
    again = _finish_job(demo, session, PRIVATE)
    refusals = again.record.rounds[-1].failures if again.record.rounds else {}
    if again.record.status == "completed" or set(refusals.values()) != {"privacy_spent"}:
        raise FederationError("job_failed", f"the cap should have refused job {again.id}, found {dict(refusals)}")
    for name in sorted(refusals):
        demo.tell(f"{name} refuses: its patients have not enough privacy left under the cap")
    return {
        "epsilon": {name: one.epsilon for name, one in spent.items()},
        "delta": {name: one.delta for name, one in spent.items()},
        "dice": dice,
        "refused_at_the_cap": dict(refusals),
    }


def _training_job(file: str) -> TrainingJob:
    job = read_job(shared("jobs", file))
    if not isinstance(job, TrainingJob):
        raise FederationError("job_failed", f"{file} is not a training job")
    return job


def _run_job(demo: Demo, session: Session, file: str, *, release: Path | None = None) -> FinishedJob:
    """Have a job done, and give its result.

    Raises:
        FederationError: ``job_failed``.
    """
    finished = _finish_job(demo, session, file, release=release)
    require_completed(finished, demo.workdir)
    return finished


def _finish_job(demo: Demo, session: Session, file: str, *, release: Path | None = None) -> FinishedJob:
    """Submit a job file, show it until it has ended one way or another, and give its result."""
    prepared = prepare(read_job(shared("jobs", file)), demo.workdir, release=release)
    keep_document(prepared, demo.workdir)
    job_id = session.submit(prepared)
    with live(demo.console) as show:
        finished = session.watch(job_id, on_progress=show)
        show(finished.record)
    return finished


def require_completed(finished: FinishedJob, workdir: Workdir) -> None:
    """Refuse a job that did not end well.

    Raises:
        FederationError: ``job_failed``, with each site's code.
    """
    record = finished.record
    if record.status == "completed":
        return
    failures: Mapping[str, str] = record.rounds[-1].failures if record.rounds else {}
    failures = failures or {site: outcome.code for site, outcome in record.sites.items() if outcome.is_failure}
    listed = ", ".join(f"{site}: {code}" for site, code in sorted(failures.items())) or "no site reported an error"
    where = "" if workdir.state().server else f" in {workdir.root / 'hospitals'}"
    raise FederationError(
        "job_failed",
        f"job {record.name} {record.status} ({record.code}; {listed}); each hospital's errors.log{where} says more",
    )


def _weights(release: Path) -> Any:
    from fedward.inference.load import flat_weights
    from fedward.release.package import read_parts, verify_release

    verified = verify_release(read_parts(release))
    return flat_weights(verified.parts, verified.passport)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _program(name: str) -> str:
    """Write a program's name as the user can type it here: it may lie in a virtual environment that is not active."""
    if shutil.which(name):
        return name
    path = Path(sys.executable).with_name(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _print_summary(summary: Mapping[str, Any], workdir: Workdir, console: Console) -> None:
    console.print("7/7 Summary", style="bold")
    table = Table(
        "model",
        "Dice",
        "90 % interval",
        "global minus this",
        "FP/scan",
        caption="lesion Dice and false positives; intervals by bootstrap over patients",
    )
    low, high = summary["global_dice_interval"]
    table.add_row(
        "global",
        Text(f"{summary['global_dice']:.3f}", style="bold"),
        f"{low:.3f} to {high:.3f}",
        "",
        f"{summary['global_false_positives_per_scan']:.2f}",
    )
    for name, dice in summary["local_dice"].items():
        low, high = summary["global_minus_local_interval"][name]
        false_positives = summary["local_false_positives_per_scan"][name]
        table.add_row(f"{name} alone", f"{dice:.3f}", "", f"{low:+.3f} to {high:+.3f}", f"{false_positives:.2f}")
    console.print(table)
    root = workdir.root
    privacy = summary["privacy"]
    scans, lesions = summary["held_out_scans"], summary["held_out_lesions"]
    site = next(iter(summary["reports"]))
    for line in (
        f"on {lesions} lesions in {scans} held-out scans of all hospitals, in {summary['seconds']:.0f} s",
        f"under epsilon {max(privacy['epsilon'].values()):.1f} a dozen patients a hospital leave a Dice of "
        f"{_number(privacy['dice'])}",
        f"release      {summary['release']}",
        *(f"reports      {path}" for path in summary["reports"].values()),
        f"tensorboard  {summary['tensorboard']}",
        "",
        "Nothing of it runs any more. Next:",
        f"  {_program('tensorboard')} --logdir {summary['tensorboard']}",
        f"  {_program('fedward')} model show {summary['release']}",
        f"  {_program('fedward')} model list --site {workdir.site_file(site)}",
        f"  {_program('fedward')} privacy status --site {workdir.site_file(site)}",
        f"  {_program('fedward')} data check {workdir.hospital(site) / 'dicom'}",
        f"  {_program('fedward')} poc up --workdir {root}",
        f"  {_program('fedward')} job submit {shared('jobs', 'evaluation.toml')} --workdir {root} --watch",
    ):
        console.print(f"  {line}", markup=False)
