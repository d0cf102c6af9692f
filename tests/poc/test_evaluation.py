"""An evaluation in a real federation, after training, release and activation: the pages and the numbers behind them."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluation_cases import TRAINERS
from fedward.evaluation.kept_alone import keep_alone
from fedward.evaluation.local_only import train_alone
from fedward.evaluation.sheet import sheet_of
from fedward.evaluation_page.coordinator_page import NUMBERS, PAGE, read_outcome
from fedward.federation.consent import hash_model
from fedward.hospital import Hospital
from fedward.models.initial import initial_weights
from fedward.privacy.mechanisms import Gaussian, Unprotected
from fedward.settings.job import CountsExchange, CountsPrivacy, EvaluationJob, PublishJob, Sites
from fedward.settings.site import read_site_settings
from fedward_flare.jobs import prepare
from fedward_flare.releases import release_job
from fedward_flare.results import FinishedJob
from tiny_federation import NAMES, Federation, training_job

pytestmark = pytest.mark.federation

EVERYBODY = Sites(minimum=4, deadline_s=120)

# Its own name: the other tests here number the releases of theirs.
TRAINING = training_job(mode="secure-sum").model_copy(update={"name": "evaluated"})
JOB = EvaluationJob(
    kind="evaluate",
    name="evaluation",
    sites=EVERYBODY,
    release="evaluated",
    task="lesions",
    exchange=CountsExchange(mode="secure-sum"),
    privacy=CountsPrivacy(noise_multiplier=2.0),
)
# Of so much noise that the hospitals' caps bear it beside the gates and evaluations of the other tests.
MATRIX = EvaluationJob.model_validate(
    JOB.model_dump()
    | {"name": "matrix", "exchange": {"mode": "plain"}, "local_models": True, "privacy": {"noise_multiplier": 20.0}}
)


@pytest.fixture(scope="module")
def released(federation: Federation) -> str:
    """Give the name of a release that every hospital has installed."""
    trained = federation.run(TRAINING)
    release = release_job(trained, federation.workdir, without_gate=True)
    publish = prepare(PublishJob(kind="publish", name="publish", sites=EVERYBODY), federation.workdir, release=release)
    federation.session.watch(federation.session.submit(publish), timeout_s=120)
    return release.name


def evaluate(federation: Federation, job: EvaluationJob) -> FinishedJob:
    prepared = prepare(job, federation.workdir)
    return federation.session.watch(federation.session.submit(prepared), timeout_s=180)


def page_folder(federation: Federation, name: str, finished: FinishedJob) -> Path:
    pages = federation.workdir.hospital(name) / "state" / "evaluations"
    (folder,) = pages.glob(f"*-{finished.record.id[:8]}")
    return folder


def test_an_evaluation_ends_in_a_page_at_the_coordinator_and_one_at_every_hospital(
    federation: Federation, released: str, edited_site: Callable[[str, str, str], None]
) -> None:
    edited_site("north", '"validation_cases"]', '"validation_cases", "evaluation"]')
    north = read_site_settings(federation.workdir.site_file("north"))
    alone = train_alone(north, TRAINING)
    keep_alone(north.state, TRAINING, alone.weights, patient_keys=alone.patient_keys)
    finished = evaluate(federation, JOB)

    assert finished.record.status == "completed"
    assert {site: one.code for site, one in finished.record.sites.items()} == dict.fromkeys(NAMES, "done")
    outcome = read_outcome((finished.folder / NUMBERS).read_bytes())
    assert f"{outcome.release}-{outcome.number}" == released
    assert set(outcome.noise_multipliers) == set(NAMES)
    assert set(outcome.rows) == {"north"}
    assert set(outcome.rows["north"]) == {"release", "local"}
    text = (finished.folder / PAGE).read_text()
    assert finished.page == finished.folder / PAGE
    assert text.count("stays at the site") == 2 * 3
    assert set(re.findall(r'(?:src|href)="([^:"]+):', text)) == {"data"}

    exact = np.zeros(sheet_of("lesions").size)
    for name in NAMES:
        folder = page_folder(federation, name, finished)
        for path in (folder, folder / PAGE, folder / NUMBERS):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        found = json.loads((folder / NUMBERS).read_text())
        assert set(found["models"]) == ({"release", "local"} if name == "north" else {"release"})
        counts = found["counts"]["release"]["histograms"]
        exact += np.concatenate([counts[block.name] for block in sheet_of("lesions").blocks])
        ledger = Hospital.open(federation.workdir.site_file(name)).ledger()
        (kept,) = [one for one in ledger.entries().jobs.values() if one.name == JOB.name]
        assert kept.plan["test"] == ((Unprotected(),) if name == "north" else (Gaussian(2.0, 1),))
        assert not kept.is_open
    noise = (np.array(outcome.total) - exact) / outcome.deviation
    assert (noise == 0).mean() < 0.05
    assert 0.6 < noise.std() < 1.4, "the total is the sites' exact counts and the sum of their noises"


def test_every_own_model_is_tried_at_every_hospital_where_all_site_files_allow_it(
    federation: Federation, released: str, edited_site: Callable[[str, str, str], None]
) -> None:
    for name in NAMES:
        edited_site(name, "allow_non_private = true", "allow_non_private = true\nshare_local_model = true")
    for name in ("north", "east"):
        edited_site(name, '"validation_cases"]', '"validation_cases", "evaluation"]')
    models = {}
    for place, name in enumerate(("north", "west")):
        site = read_site_settings(federation.workdir.site_file(name))
        models[name] = initial_weights(TRAINING) + np.float32(0.01 * place)
        keep_alone(site.state, TRAINING, models[name], patient_keys=TRAINERS)

    finished = evaluate(federation, MATRIX)
    assert finished.record.status == "completed"
    outcome = read_outcome((finished.folder / NUMBERS).read_bytes())
    assert outcome.local_models == {name: hash_model(weights) for name, weights in models.items()}
    assert {name: set(row) for name, row in outcome.rows.items()} == {
        "north": {"release", "local", "of west"},
        "east": {"release", "of north", "of west"},
    }
    page = (finished.folder / PAGE).read_text()
    assert all(f"the own model of {name}" in page for name in NAMES)
    assert page.count("stays at the site") == 5 * 2
    assert set(sent(federation, finished.record.id, "fedward_give")) == set(NAMES)
    for name in NAMES:
        shown = json.loads((page_folder(federation, name, finished) / NUMBERS).read_text())
        own = {"local" if name == owner else f"of {owner}" for owner in models}
        assert set(shown["models"]) == {"release", *own}
        kept = Hospital.open(federation.workdir.site_file(name)).ledger().entries().jobs[finished.record.id]
        assert kept.plan["test"] == ((Unprotected(),) if name in ("north", "east") else (Gaussian(20.0, 1),))
        assert kept.plan.get("train") == ((Unprotected(),) if name in models else None)
        assert not kept.is_open


def sent(federation: Federation, job_id: str, message: str) -> list[str]:
    """Give the hospitals whose audit says that such a message of a job has left."""
    found = []
    for name in NAMES:
        lines = Hospital.open(federation.workdir.site_file(name)).audit.lines()
        if any((line.facts.get("message"), line.facts.get("job")) == (message, job_id) for line in lines):
            found.append(name)
    return found
