"""``fedward model release``; ``propose``, ``sign`` and ``adopt`` where another person than the coordinator signs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from fedward.cli import explained, output
from fedward_flare.options import POC_FOLDER, JobId, WorkdirOption

WithoutGate = Annotated[
    bool, typer.Option("--without-gate", help="Release it although no gate let it pass; its passport says so.")
]


def release(job_id: JobId, workdir: WorkdirOption = POC_FOLDER, without_gate: WithoutGate = False) -> None:
    """Sign the best model of a finished training job as the job's next release, where coordinator and officer are one.

    All but the first of a name must have come through the gate: fedward job submit jobs/gate.toml --candidate ID

    Bring it to the hospitals with: fedward job submit jobs/publish.toml --release FOLDER
    """
    with explained():
        from fedward_flare.releases import release_job
        from fedward_flare.session import connect
        from fedward_flare.workdir import Workdir

        folder = Workdir(workdir.resolve())
        with connect(folder) as session:
            finished = session.fetch(job_id)
        output.print(str(release_job(finished, folder, without_gate=without_gate)), markup=False)


def propose(
    job_id: JobId,
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="A new folder, for the release officer.")],
    workdir: WorkdirOption = POC_FOLDER,
) -> None:
    """Write what the release officer needs to sign a trained model: job, record, model, gates, earlier releases.

    The coordinator's command, where the release key is another person's. The officer signs with: fedward model sign
    """
    with explained():
        from fedward_flare.proposals import fetched
        from fedward_flare.proposals import propose as write_proposal
        from fedward_flare.session import connect
        from fedward_flare.workdir import Workdir

        folder = Workdir(workdir.resolve())
        finished = fetched(job_id, folder)
        if finished is None:
            with connect(folder) as session:
                finished = session.fetch(job_id)
        output.print(f"for the release officer: {write_proposal(finished, folder, out)}", soft_wrap=True)


def sign(
    proposal: Annotated[
        Path, typer.Argument(metavar="PROPOSAL", exists=True, file_okay=False, help="From fedward model propose.")
    ],
    officer: Annotated[
        Path,
        typer.Option(
            "--officer",
            exists=True,
            file_okay=False,
            help="The officer's folder: release.key, release.crt, rootCA.pem, and the coordinator's coordinator.crt.",
        ),
    ],
    without_gate: WithoutGate = False,
) -> None:
    """Verify a proposal and sign its model as the next release of its name: the release officer's command.

    It goes into the folder releases of the officer's. Hand it back to the coordinator: fedward model adopt
    """
    with explained():
        from fedward_flare.proposals import RELEASES, read_officer, sign_proposal

        passport = sign_proposal(proposal, read_officer(officer), without_gate=without_gate).passport
        name, gate = f"{passport.name}-{passport.number}", passport.gate
        said = ", ".join(f"{site} {code}" for site, code in gate.sites.items())
        output.print(f"job {passport.job_id} of {', '.join(passport.participants)}", soft_wrap=True)
        output.print(f"gate: {gate.outcome.replace('_', ' ')}" + (f" ({said})" if said else ""), soft_wrap=True)
        output.print(f"signed: {officer / RELEASES / name}", soft_wrap=True)


def adopt(
    folder: Annotated[
        Path, typer.Argument(metavar="RELEASE", exists=True, file_okay=False, help="What the officer has handed back.")
    ],
    workdir: WorkdirOption = POC_FOLDER,
) -> None:
    """Verify a release that the officer has signed and keep it among the coordinator's, to publish or start from.

    Bring it to the hospitals with: fedward job submit jobs/publish.toml --release FOLDER
    """
    with explained():
        from fedward_flare.proposals import adopt as keep_release
        from fedward_flare.workdir import Workdir

        output.print(str(keep_release(folder, Workdir(workdir.resolve()))), soft_wrap=True)


COMMANDS: dict[str, Callable[..., None]] = {"release": release, "propose": propose, "sign": sign, "adopt": adopt}
