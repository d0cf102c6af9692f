from __future__ import annotations

import numpy as np

from fedward.imaging.centred import (
    cut_around,
    draw_classified_batch,
    draw_lesion_batch,
    lesion_centres,
    place_elsewhere,
    places_elsewhere,
)
from fedward.imaging.foreground import find_foreground
from fedward.imaging.patches import Batch, TrainingCase
from fedward.randomness import Seeded
from fedward.settings.job import Training
from fedward.settings.tasks import Classification, MultiTask
from small_cases import job_with

SIZE = (8, 8, 8)
LESIONS = ((slice(4, 7), slice(20, 23), slice(24, 27)), (slice(20, 25), slice(3, 8), slice(10, 15)))
TASK = Classification(kind="classification", classes=("nodule", "elsewhere"), positive="nodule")


def case_with(*lesions: tuple[slice, slice, slice], air: int = 0) -> TrainingCase:
    """The label is the image's own value, so that a patch shows what lies at its centre; the first ``air`` slices
    show nothing."""
    label = np.zeros((30, 30, 30), dtype=np.uint8)
    for lesion in lesions:
        label[lesion] = 1
    image = 1 + label.astype(np.float16)
    image[:air] = 0
    return TrainingCase(image, label, find_foreground(label), floor=0.0)


def training_with(**changes: object) -> Training:
    return job_with(augmentation={"flip": False}, patch_size=SIZE, **changes).training


def batch_of(cases: list[TrainingCase], *, count: int = 16, step: int = 0, share: float = 0.5) -> Batch:
    training = training_with(positive_share=share)
    return draw_classified_batch(cases, count=count, step=step, training=training, task=TASK, randomness=Seeded(1))


def test_a_patchs_class_is_what_lies_at_its_centre() -> None:
    for step in range(4):
        batch = batch_of([case_with(*LESIONS), case_with()], step=step)
        is_lesion = batch.images[:, 0, 4, 4, 4] == 2
        np.testing.assert_array_equal(batch.labels, np.where(is_lesion, TASK.positive_index, 1 - TASK.positive_index))


def test_the_share_of_positive_patches_is_met_exactly() -> None:
    counts = [(batch_of([case_with(*LESIONS)], share=0.25, step=step).labels == 0).sum() for step in range(4)]
    assert counts == [4] * 4


def test_a_negative_patch_has_no_lesion_in_its_middle_half() -> None:
    batch = batch_of([case_with(*LESIONS)], count=64, share=0.0)
    assert (batch.labels == 1).all()
    assert batch.images[:, 0, 2:6, 2:6, 2:6].max() == 1


def test_one_step_of_one_stream_gives_one_batch() -> None:
    first, again, next_step = (batch_of([case_with(*LESIONS)], step=step) for step in (3, 3, 4))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != next_step.images).any()


def test_where_a_lesion_fills_the_scan_every_patch_is_said_to_show_it() -> None:
    everywhere = case_with((slice(0, 30), slice(0, 30), slice(0, 30)))
    assert (batch_of([everywhere], share=0.0).labels == TASK.positive_index).all()
    assert places_elsewhere(everywhere, SIZE, count=5, generator=np.random.default_rng(0)) == ()


def test_a_lesions_centre_is_a_voxel_of_its_own_even_where_its_mean_is_not() -> None:
    label = np.zeros((30, 30, 30), dtype=np.uint8)
    label[10, 5:20, 5:20] = 1
    label[10, 7:18, 7:18] = 0
    ring = TrainingCase(label.astype(np.float16), label, find_foreground(label), floor=0.0)
    (centre,) = lesion_centres(ring)
    assert label[centre] == 1
    assert lesion_centres(case_with(*LESIONS)) == ((5, 21, 25), (22, 5, 12))


def test_a_place_elsewhere_shows_something() -> None:
    case, generator = case_with(*LESIONS, air=15), np.random.default_rng(2)
    assert min(place_elsewhere(case, SIZE, generator)[0] for _ in range(40)) >= 15


def test_what_lies_outside_the_scan_is_zero() -> None:
    patch = cut_around(case_with().image, (0, 0, 29), SIZE)
    assert patch.shape == SIZE
    assert patch[4, 4, 4] == 1
    assert patch[:4].max() == patch[:, :, 5:].max() == 0


GRADES = MultiTask(kind="multitask", classes=("benign", "malignant"))
SPACING_MM = (2.0, 1.5, 1.0)


def graded_case() -> TrainingCase:
    label = np.zeros((30, 30, 30), dtype=np.uint8)
    label[LESIONS[0]], label[LESIONS[1]] = 1, 2
    return TrainingCase(1 + label.astype(np.float16), label, find_foreground(label), floor=0.0)


def test_a_lesion_batch_says_what_is_known_of_the_lesion_at_each_centre() -> None:
    training = training_with(positive_share=0.5)
    options = {"count": 64, "step": 1, "training": training, "task": GRADES, "spacing_mm": SPACING_MM}
    batch = draw_lesion_batch([graded_case()], randomness=Seeded(3), **options)
    np.testing.assert_array_equal(np.maximum(batch.images - 1, 0), batch.labels)
    centre = batch.labels[:, 0, 4, 4, 4]
    assert set(centre.tolist()) == {0, 1, 2}
    assert batch.facts is not None
    assert np.isnan(batch.facts[centre == 0]).all()
    # Balls of the volumes of 3 x 3 x 3 and 5 x 5 x 5 voxels of 3 cubic millimetres.
    for grade, voxels in ((1, 27), (2, 125)):
        radius_mm = (3 * voxels * 3 / (4 * np.pi)) ** (1 / 3)
        facts = batch.facts[centre == grade]
        np.testing.assert_allclose(facts, np.broadcast_to([grade - 1, 2 * radius_mm], facts.shape), rtol=1e-5)
