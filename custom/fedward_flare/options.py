"""Arguments and options that several of the coordinator's commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

POC_FOLDER, DEMO_FOLDER = Path("fedward-poc"), Path("fedward-demo")

WorkdirOption = Annotated[
    Path,
    typer.Option("--workdir", envvar="FEDWARD_WORKDIR", file_okay=False, help="The federation's work folder."),
]
JobFile = Annotated[Path, typer.Argument(metavar="JOB", exists=True, dir_okay=False, help="A job file (TOML).")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its beginning; see: fedward job list")]
ReleaseOption = Annotated[
    Path | None,
    typer.Option("--release", exists=True, file_okay=False, help="The release that a publishing job brings."),
]

CandidateOption = Annotated[
    str | None,
    typer.Option("--candidate", metavar="JOB", help="The finished training job whose model a gate is about."),
]
