from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from fedward.inference.model import ModelFacts


def facts(**changes: object) -> ModelFacts:
    return ModelFacts.model_validate(
        {
            "name": "lung_nodule",
            "release_number": 3,
            "model_sha256": "ab" * 32,
            "rounds": 20,
            "participants": ("north", "south"),
            "private": False,
            "signer": "release.demo",
            "signed_at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
            "signature_verified": True,
            **changes,
        }
    )


def test_a_private_model_states_its_bound() -> None:
    assert facts(private=True, epsilon=4.0, delta=1e-5).epsilon == 4.0
    with pytest.raises(ValidationError, match="states epsilon and delta"):
        facts(private=True)


def test_a_model_that_is_not_private_cannot_claim_a_bound() -> None:
    with pytest.raises(ValidationError, match="states epsilon and delta"):
        facts(epsilon=4.0, delta=1e-5)


def test_a_date_needs_its_time_zone() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        facts(signed_at=datetime(2026, 1, 2))
