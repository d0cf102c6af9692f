"""What is known of a model that no federation has made, and what a model says of an image."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fedward.inference.model import ModelFacts

#: What an assessment says of an image that is called malignant.
SAID: dict[str, Any] = {
    "probabilities": [
        {"class_name": "benign", "probability": 0.3},
        {"class_name": "malignant", "probability": 0.7},
    ],
    "positive": "malignant",
    "operating_point": 0.5,
    "called": "malignant",
}


def facts_of(name: str, **more: Any) -> ModelFacts:
    values = {
        "release_number": 1,
        "model_sha256": "00" * 32,
        "rounds": 1,
        "participants": ("north",),
        "private": False,
        "signer": "release.test",
        "signed_at": datetime(2026, 1, 1, tzinfo=UTC),
        "signature_verified": False,
    }
    return ModelFacts(name=name, **{**values, **more})
