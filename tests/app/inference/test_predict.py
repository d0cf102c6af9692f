from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedward.dicom.volume import Volume
from fedward.errors import ReleaseRefused, Stopped
from fedward.inference.model import LoadedModel
from fedward.inference.predict import infer_volume
from fedward.models.multitask_densenet3d import MultiTaskAnswer
from fedward.models.runtime import Runtime
from fedward.randomness import Secret
from fedward.settings.job import Input, Segmentation, Window
from fedward.settings.tasks import Classification, MultiTask
from model_cases import facts_of

OBLIQUE_AGAINST_THE_NORMAL = np.array(
    [[0.0, 0.42, 0.56, -20.0], [0.0, 0.56, -0.42, 35.0], [-1.5, 0.0, 0.0, 60.0], [0.0, 0.0, 0.0, 1.0]]
)


class Bright(torch.nn.Module):
    """A network that calls every bright voxel foreground."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(windows), 20 * (windows - 0.5)], dim=1)


@pytest.fixture
def model() -> LoadedModel:
    return LoadedModel(
        facts=facts_of("bright"),
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


def centre_of(windows: torch.Tensor) -> torch.Tensor:
    """The brightest voxel of each window's middle."""
    first, second, third = (size // 2 for size in windows.shape[2:])
    middle = windows[:, 0, first - 1 : first + 2, second - 1 : second + 2, third - 1 : third + 2]
    return middle.flatten(1).amax(dim=1)


class BrightIsMalignant(torch.nn.Module):
    """Marks bright voxels, the brightest ones as the second grade; a lesion is malignant when its middle is brightest.

    Its diameter is ten times the middle's value.
    """

    def forward(self, windows: torch.Tensor) -> MultiTaskAnswer:
        voxels = torch.cat([torch.zeros_like(windows), 20 * (windows - 0.5), 60 * (windows - 0.75)], dim=1)
        centre = centre_of(windows)
        return MultiTaskAnswer(voxels, 40 * (centre - 0.8), 10 * centre, torch.zeros(3))


class BrightMiddle(torch.nn.Module):
    """A classifier of a window: bright in the middle, or not."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        centre = 40 * (centre_of(windows) - 0.8)
        return torch.stack([torch.zeros_like(centre), centre], dim=1)


GRADES = MultiTask(kind="multitask", classes=("benign", "malignant"), minimum_lesion_mm=4.0)
BRIGHTNESS = Classification(kind="classification", classes=("dull", "bright"), positive="bright")


def with_two_balls() -> tuple[Volume, np.ndarray]:
    """A small ball at -100 HU (0.75 of the window) and a large one at 100 HU (0.92); and which is where."""
    small, large = with_a_bright_ball((18, 18, 14), 6.0), with_a_bright_ball((11, 40, 45), 9.0)
    array = np.where(small.array > 0, -100, large.array).astype(np.float32)
    return replace(large, array=array), np.where(small.array > 0, 1, 0) + np.where(large.array > 0, 2, 0)


def test_a_multi_task_model_judges_each_lesion_by_the_patch_around_it(model: LoadedModel) -> None:
    grading = replace(model, network=BrightIsMalignant(), task=GRADES)
    volume, truth = with_two_balls()
    result = infer_volume(grading, volume, runtime=Runtime(), randomness=Secret())
    large, small = result.findings.lesions
    assert [result.findings.task, large.class_name, small.class_name] == ["multitask", "lesion", "lesion"]
    for lesion, number in ((large, 2), (small, 1)):
        inside = truth[result.lesion_map == lesion.number]
        assert (inside == number).mean() > 0.9
    assert (large.assessment.called, small.assessment.called) == ("malignant", "benign")
    assert large.assessment.positive_probability > 0.9
    assert small.assessment.positive_probability < 0.2
    assert large.assessment.diameter_mm == pytest.approx(9.2, abs=0.3)
    assert small.assessment.diameter_mm == pytest.approx(7.5, abs=0.3)


def test_a_lesion_with_voxels_of_two_grades_is_one_lesion(model: LoadedModel) -> None:
    grading = replace(model, network=BrightIsMalignant(), task=GRADES)
    volume = with_a_bright_ball((11, 20, 45), 9.0)
    half = volume.array.copy()
    half[:, :, 45:][half[:, :, 45:] > 0] = -150
    result = infer_volume(grading, replace(volume, array=half), runtime=Runtime(), randomness=Secret())
    assert len(result.findings.lesions) == 1


def test_a_classifier_judges_the_lesions_that_its_detector_finds_on_its_own_grid(model: LoadedModel) -> None:
    coarse = model.input.model_copy(update={"spacing_mm": (2.0, 1.5, 1.5)})
    judging = replace(
        model, network=BrightMiddle(), task=BRIGHTNESS, input=coarse, patch_size=(8, 8, 8), detector=model
    )
    volume, truth = with_two_balls()
    result = infer_volume(judging, volume, runtime=Runtime(), randomness=Secret())
    assert result.findings.task == "classification"
    assert [lesion.class_name for lesion in result.findings.lesions] == ["nodule", "nodule"]
    assert [lesion.assessment.called for lesion in result.findings.lesions] == ["bright", "dull"]
    assert [lesion.assessment.diameter_mm for lesion in result.findings.lesions] == [None, None]
    assert (truth[result.lesion_map == 1] == 2).mean() > 0.9


def test_a_classifier_of_whole_images_looks_at_their_middle(model: LoadedModel) -> None:
    whole = BRIGHTNESS.model_copy(update={"of": "image"})
    judging = replace(model, network=BrightMiddle(), task=whole, patch_size=(16, 16, 16))
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    for shape, value, called in (
        ((12, 16, 10), 100, "bright"),
        ((12, 16, 10), -900, "dull"),
        ((20, 18, 30), 0, "bright"),
    ):
        array = np.full(shape, -900, np.float32)
        array[tuple(slice(size // 2 - 2, size // 2 + 2) for size in shape)] = value
        volume = Volume(array, affine, "CT", "p", "1.2", "1.2.3")
        result = infer_volume(judging, volume, runtime=Runtime(), randomness=Secret())
        assert (result.findings.kind, result.findings.lesions) == ("image", ())
        assert result.findings.assessment.called == called
        assert result.findings.has_findings == (called == "bright")
        assert result.findings.only_middle == (shape[0] > 16)
        assert not result.lesion_map.any()


def test_a_classifier_of_places_without_a_detector_judges_nothing(model: LoadedModel) -> None:
    judging = replace(model, network=BrightMiddle(), task=BRIGHTNESS, patch_size=(16, 16, 16))
    with pytest.raises(ValueError, match="has no detector"):
        infer_volume(judging, with_two_balls()[0], runtime=Runtime(), randomness=Secret())


def test_no_lesion_is_nothing_to_judge(model: LoadedModel) -> None:
    volume = with_a_bright_ball((11, 20, 45), -1.0)
    for judging in (
        replace(model, network=BrightIsMalignant(), task=GRADES),
        replace(model, network=BrightMiddle(), task=BRIGHTNESS, detector=model),
    ):
        findings = infer_volume(judging, volume, runtime=Runtime(), randomness=Secret()).findings
        assert (findings.lesions, findings.assessed, findings.task) == ((), (), judging.task.kind)
