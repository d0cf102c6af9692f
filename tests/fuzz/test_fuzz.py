"""A bounded run of the fuzzing that ``make fuzz`` does for long."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fuzz.targets import TARGETS, Target

#: One input may take this long at most.
LIMIT = timedelta(seconds=2)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_but_a_refusal_comes_out_of_a_parser(target: Target) -> None:
    @settings(
        max_examples=250,
        deadline=LIMIT,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        derandomize=True,
        database=None,
    )
    @given(target.inputs())
    def feed(value: object) -> None:
        target.run(value)

    feed()
