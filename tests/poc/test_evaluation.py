"""An evaluation in a real federation, after training, release and activation: the pages and the numbers behind them."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable

import numpy as np
import pytest

from fedward.evaluation.local_only import keep_alone, train_alone
from fedward.evaluation.sheet import sheet_of
from fedward.evaluation_page.coordinator_page import NUMBERS, PAGE, read_outcome
from fedward.hospital import Hospital
from fedward.privacy.mechanisms import Gaussian, Unprotected
from fedward.settings.job import CountsExchange, CountsPrivacy, EvaluationJob, PublishJob, Sites
from fedward.settings.site import read_site_settings
from fedward_flare.jobs import prepare
from fedward_flare.releases import release_job
from tiny_federation import NAMES, Federation, training_job

pytestmark = pytest.mark.federation

EVERYBODY = Sites(minimum=4, deadline_s=120)


def test_an_evaluation_ends_in_a_page_at_the_coordinator_and_one_at_every_hospital(
    federation: Federation, edited_site: Callable[[str, str, str], None]
) -> None:
    # Its own name: the other tests here number the releases of theirs.
    training = training_job(mode="secure-sum").model_copy(update={"name": "evaluated"})
    trained = federation.run(training)
    release = release_job(trained, federation.workdir)
    publish = prepare(PublishJob(kind="publish", name="publish", sites=EVERYBODY), federation.workdir, release=release)
    federation.session.watch(federation.session.submit(publish), timeout_s=120)
    edited_site("north", '"validation_cases"]', '"validation_cases", "evaluation"]')
    north = read_site_settings(federation.workdir.site_file("north"))
    keep_alone(north.state, training, train_alone(north, training))

    job = EvaluationJob(
        kind="evaluate",
        name="evaluation",
        sites=EVERYBODY,
        release="evaluated",
        task="lesions",
        exchange=CountsExchange(mode="secure-sum"),
        privacy=CountsPrivacy(noise_multiplier=2.0),
    )
    prepared = prepare(job, federation.workdir)
    finished = federation.session.watch(federation.session.submit(prepared), timeout_s=180)

    assert finished.record.status == "completed"
    assert {site: one.code for site, one in finished.record.sites.items()} == dict.fromkeys(NAMES, "done")
    outcome = read_outcome((finished.folder / NUMBERS).read_bytes())
    assert f"{outcome.release}-{outcome.number}" == release.name
    assert set(outcome.noise_multipliers) == set(NAMES)
    assert set(outcome.rows) == {"north"}
    assert set(outcome.rows["north"]) == {"release", "local"}
    text = (finished.folder / PAGE).read_text()
    assert finished.page == finished.folder / PAGE
    assert text.count("stays at the site") == 2 * 3
    assert set(re.findall(r'(?:src|href)="([^:"]+):', text)) == {"data"}

    exact = np.zeros(sheet_of("lesions").size)
    for name in NAMES:
        state = federation.workdir.hospital(name) / "state"
        (folder,) = (state / "evaluations").iterdir()
        for path in (folder, folder / PAGE, folder / NUMBERS):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        found = json.loads((folder / NUMBERS).read_text())
        assert set(found["models"]) == ({"release", "local"} if name == "north" else {"release"})
        counts = found["counts"]["release"]["histograms"]
        exact += np.concatenate([counts[block.name] for block in sheet_of("lesions").blocks])
        ledger = Hospital.open(federation.workdir.site_file(name)).ledger()
        (kept,) = [one for one in ledger.entries().jobs.values() if one.name == job.name]
        assert kept.plan["test"] == ((Unprotected(),) if name == "north" else (Gaussian(2.0, 1),))
        assert not kept.is_open
    noise = (np.array(outcome.total) - exact) / outcome.deviation
    assert (noise == 0).mean() < 0.05
    assert 0.6 < noise.std() < 1.4, "the total is the sites' exact counts and the sum of their noises"
