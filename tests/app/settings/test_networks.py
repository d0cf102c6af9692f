from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fedward.settings.job import TrainingJob
from fedward.settings.networks import AnyNetwork, MultiTaskDenseNet3D, UNet3D, ViT3D, fit_faults
from fedward.settings.tasks import AnyTask, Classification, MultiTask
from network_cases import CLASSIFICATION, CLASSIFYING_DENSENET, DENSENET, MULTITASK, SEGMENTATION, VIT
from small_cases import job_with
from tiny_federation import classifying, multitasking

UNET = UNet3D(name="unet3d", channels=(8, 16, 32))


def vit(**changes: Any) -> ViT3D:
    return ViT3D.model_validate({**VIT.model_dump(), **changes})


@pytest.mark.parametrize(
    ("network", "task", "patch_size"),
    [
        (UNET, SEGMENTATION, (8, 12, 16)),
        (VIT, CLASSIFICATION, (16, 24, 16)),
        (CLASSIFYING_DENSENET, CLASSIFICATION, (8, 9, 30)),
        (DENSENET, MULTITASK, (32, 16, 16)),
    ],
)
def test_what_fits_has_no_fault(network: AnyNetwork, task: AnyTask, patch_size: tuple[int, int, int]) -> None:
    assert fit_faults(network, task, patch_size) == ()


@pytest.mark.parametrize(
    ("network", "task", "patch_size", "fault"),
    [
        (UNET, CLASSIFICATION, (8, 8, 8), "network unet3d does segmentation, but the task is classification"),
        (VIT, MULTITASK, (16, 24, 16), "network vit3d does classification, but the task is multitask"),
        (DENSENET, SEGMENTATION, (32, 32, 32), "network multitask_densenet3d does multitask, but the task is segmen"),
        (UNET, SEGMENTATION, (8, 10, 8), "training.patch_size must be multiples of 4 for this network, got [10]"),
        (
            VIT,
            CLASSIFICATION,
            (16, 16, 16),
            "training.patch_size must be network.window [16, 24, 16], got [16, 16, 16]",
        ),
        (CLASSIFYING_DENSENET, CLASSIFICATION, (8, 7, 30), "training.patch_size must be at least 8 for this network"),
        (DENSENET, MULTITASK, (16, 16, 16), "training.patch_size must reach 32 along an axis for position attention"),
        (DENSENET, MULTITASK, (32, 40, 32), "training.patch_size must be multiples of 16 for this network, got [40]"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(
    network: AnyNetwork, task: AnyTask, patch_size: tuple[int, int, int], fault: str
) -> None:
    (found,) = fit_faults(network, task, patch_size)
    assert found.startswith(fault)


def test_all_faults_of_a_combination_are_named() -> None:
    assert len(fit_faults(UNET, MULTITASK, (9, 9, 9))) == 2


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"token": (8, 7, 8)}, r"token must divide window along each axis, got \[8, 7, 8\] of \[16, 24, 16\]"),
        ({"heads": 5}, "heads must divide hidden, got 5 of 24"),
        ({"token": (16, 24, 16)}, "window must hold 2 to 4096 tokens, got 1"),
        ({"window": (64, 64, 64), "token": (2, 2, 2)}, "window must hold 2 to 4096 tokens, got 32768"),
    ],
)
def test_a_transformer_whose_numbers_do_not_divide_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        vit(**changes)


def test_a_transformers_grid_is_its_window_in_tokens() -> None:
    assert vit(token=(4, 8, 16)).grid == (4, 3, 1)


def test_a_growth_rate_that_group_norms_cannot_divide_is_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of 8"):
        MultiTaskDenseNet3D(name="multitask_densenet3d", growth_rate=12)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"classes": ("a", "a")}, "classes must differ"),
        ({"positive": "huge"}, "positive must be one of the classes"),
        ({"class_weights": (1.0, 2.0)}, "class_weights must be 3, one a class, got 2"),
        ({"class_weights": (1.0, 2.0, 0.0)}, "greater than 0"),
        ({"operating_point": 1.0}, "less than 1"),
    ],
)
def test_a_classification_that_contradicts_itself_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Classification.model_validate({**CLASSIFICATION.model_dump(), **changes})


def test_classes_weigh_alike_where_nothing_is_said() -> None:
    task = Classification(kind="classification", classes=("no", "yes"), positive="yes")
    assert (task.weights, task.positive_index) == ((1.0, 1.0), 1)


def test_a_multitasks_classes_must_differ() -> None:
    with pytest.raises(ValidationError, match="classes must differ"):
        MultiTask(kind="multitask", classes=("nodule", "nodule"))


def test_a_job_can_train_only_classes_that_a_label_tells_apart() -> None:
    job = classifying(job_with()).model_dump()
    job["task"] |= {"classes": ("benign", "unclear", "nodule")}
    with pytest.raises(ValidationError, match=r"task\.classes must be two, got 3"):
        TrainingJob.model_validate(job)


def test_a_network_of_another_task_is_no_job() -> None:
    job = {**job_with().model_dump(), "task": classifying(job_with()).task.model_dump()}
    with pytest.raises(ValidationError, match="network unet3d does segmentation, but the task is classification"):
        TrainingJob.model_validate(job)


def test_a_job_can_learn_malignancy_only_from_the_lesions_class() -> None:
    job = multitasking(job_with()).model_dump()
    job["task"] |= {"positive": "malignant"}
    with pytest.raises(ValidationError, match=r"task\.positive must be one of the classes \['nodule', 'other'\]"):
        TrainingJob.model_validate(job)
