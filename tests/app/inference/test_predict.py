from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from fedward.dicom.volume import Volume
from fedward.errors import ReleaseRefused, Stopped
from fedward.inference.model import LoadedModel, ModelFacts
from fedward.inference.predict import infer_volume
from fedward.models.runtime import Runtime
from fedward.randomness import Secret
from fedward.settings.job import Input, Segmentation, Window

OBLIQUE_AGAINST_THE_NORMAL = np.array(
    [[0.0, 0.42, 0.56, -20.0], [0.0, 0.56, -0.42, 35.0], [-1.5, 0.0, 0.0, 60.0], [0.0, 0.0, 0.0, 1.0]]
)


class Bright(torch.nn.Module):
    """A network that calls every bright voxel foreground."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(windows), 20 * (windows - 0.5)], dim=1)


@pytest.fixture
def model() -> LoadedModel:
    facts = ModelFacts(
        name="bright",
        release_number=1,
        model_sha256="00" * 32,
        rounds=1,
        participants=("a",),
        private=False,
        signer="release.test",
        signed_at=datetime(2026, 1, 1, tzinfo=UTC),
        signature_verified=False,
    )
    return LoadedModel(
        facts=facts,
        network=Bright(),
        input=Input(modality="CT", spacing_mm=(1.0, 1.0, 1.0), intensity=Window(kind="window", low=-1000, high=200)),
        task=Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice", minimum_lesion_mm=4.0),
        patch_size=(32, 32, 32),
    )


def with_a_bright_ball(centre: tuple[int, int, int], radius_mm: float, modality: str = "CT") -> Volume:
    affine = OBLIQUE_AGAINST_THE_NORMAL
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (30, 60, 70)), indexing="ij"), axis=-1)
    distance = np.linalg.norm((index - centre) @ affine[:3, :3].T, axis=-1)
    array = np.where(distance <= radius_mm, 100, -900).astype(np.float32)
    return Volume(
        array, affine, modality, "p", "1.2", "1.2.3", sop_instance_uids=tuple(f"1.2.3.{k}" for k in range(30))
    )


def test_what_the_network_sees_is_found_where_it_lies(model: LoadedModel) -> None:
    volume = with_a_bright_ball((11, 20, 45), 8.0)
    result = infer_volume(model, volume, runtime=Runtime(), randomness=Secret())
    (lesion,) = result.findings.lesions
    truth = volume.array > 0
    found = result.lesion_map > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    assert lesion.centre_mm == pytest.approx(tuple((volume.affine @ [11, 20, 45, 1])[:3]), abs=0.5)
    assert lesion.slice_number == pytest.approx(12, abs=1)
    assert lesion.mean_probability > 0.9


def test_nothing_seen_is_nothing_found(model: LoadedModel) -> None:
    volume = with_a_bright_ball((11, 20, 45), -1.0)
    assert infer_volume(model, volume, runtime=Runtime(), randomness=Secret()).findings.lesions == ()


def test_a_series_of_another_modality_is_refused(model: LoadedModel) -> None:
    volume = with_a_bright_ball((11, 20, 45), 8.0, modality="MR")
    with pytest.raises(ReleaseRefused, match="wrong_modality"):
        infer_volume(model, volume, runtime=Runtime(), randomness=Secret())


def test_it_ends_when_it_is_asked_to(model: LoadedModel) -> None:
    volume = with_a_bright_ball((11, 20, 45), 8.0)
    with pytest.raises(Stopped, match="aborted"):
        infer_volume(model, volume, runtime=Runtime(), randomness=Secret(), should_stop=lambda: True)
