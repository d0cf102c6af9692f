"""The command that trains a hospital's own model: ``model train-alone``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fedward.cli import SiteOption, explained, open_hospital, output
from fedward.errors import SettingsError


def train_alone(
    job: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A training job's file (TOML).")],
    site_file: SiteOption = None,
) -> None:
    """Train a job's network on this hospital's own patients alone, and keep it here to be evaluated beside releases.

    The model stands under the job's name. It leaves the hospital only where the site file lets it (share_local_model).
    """
    with explained():
        from fedward.evaluation import local_only
        from fedward.evaluation.kept_alone import keep_alone
        from fedward.settings.job import Job, TrainingJob
        from fedward.settings.read import read_settings

        settings: Job = read_settings(job, cast("type[Any]", Job))
        if not isinstance(settings, TrainingJob):
            raise SettingsError("invalid_settings", f"{job}: expected a train job, found one of kind {settings.kind}")
        site = open_hospital(site_file).site
        alone = local_only.train_alone(site, settings)
        kept = keep_alone(site.state, settings, alone.weights, patient_keys=alone.patient_keys)
        output.print(f"kept {kept}", markup=False)
