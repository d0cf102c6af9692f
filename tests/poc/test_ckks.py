"""A real federation that sums under a homomorphic key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedward.settings.job import PrivateTraining
from tiny_federation import NAMES, Federation, training_job

pytest.importorskip("tenseal")
pytestmark = pytest.mark.federation


def test_a_private_job_is_summed_under_a_key_with_its_closing_validation(federation: Federation) -> None:
    asked = PrivateTraining(
        sampling_rate=0.5,
        noise_multiplier=50.0,
        clip_norm=1.0,
        expected_patients=4,
        metric_releases=1,
        metric_noise_multiplier=1.25,
    )
    record = federation.run(training_job(mode="ckks").model_copy(update={"privacy": asked})).record
    assert record.status == "completed"
    assert [sorted(entry.weights) for entry in record.rounds] == [sorted(NAMES)] * 2
    assert record.rounds[-1].score is not None, "the closing validation was summed too"


def test_a_hospital_that_does_not_list_the_mode_takes_no_part(
    federation: Federation, edited_site: Callable[[str, str, str], None]
) -> None:
    edited_site("west", '"secure-sum", "ckks"', '"secure-sum"')
    record = federation.run(training_job(mode="ckks")).record
    assert record.status == "completed"
    assert [entry.failures for entry in record.rounds] == [{"west": "exchange_mode_not_allowed"}] * 2
