"""What a sheet holds of one patient is bounded, and nobody is found by subtraction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.evaluation.sheet import Block, Share, Sheet, bounded, is_hidden, kind_of, sheet_of, tally
from fedward.settings.job import EvaluatedTask, Segmentation
from fedward.settings.tasks import Classification, MultiTask

TASKS: tuple[EvaluatedTask, ...] = ("lesions", "structures", "classification", "multitask")
SMALL = Sheet((Block("patients", 1), Block("dice", 4), Block("seconds", 3, 0.1, 10.0, is_log=True)))

PRESENCE = st.lists(st.booleans(), max_size=24)


def share(*, has_dice: bool, value: float = 0.3) -> Share:
    made = {"patients": np.ones(1), "seconds": SMALL.block("seconds").count([1.0])}
    return {**made, "dice": SMALL.block("dice").count([value])} if has_dice else made


@given(PRESENCE, st.integers(1, 8))
def test_no_few_patients_are_found_in_what_leaves_nor_by_subtraction(has_dice: list[bool], smallest: int) -> None:
    counts = SMALL.parts(tally(SMALL, [share(has_dice=one) for one in has_dice], smallest_cohort=smallest))
    everybody, of_dice = counts["patients"].sum(), counts["dice"].sum()
    assert everybody in (0, len(has_dice))
    assert everybody == 0 or everybody >= smallest
    if of_dice:
        assert of_dice == sum(has_dice) >= smallest
        assert everybody - of_dice == 0 or everybody - of_dice >= smallest
    elif everybody:
        assert is_hidden(sum(has_dice), len(has_dice), smallest_cohort=smallest) or not any(has_dice)


@given(PRESENCE)
def test_enough_patients_on_both_sides_are_counted(has_dice: list[bool]) -> None:
    counts = SMALL.parts(tally(SMALL, [share(has_dice=one) for one in has_dice], smallest_cohort=1))
    assert counts["dice"].sum() == sum(has_dice)


@settings(max_examples=50)
@given(
    st.sampled_from(TASKS),
    st.lists(st.lists(st.floats(0, 1e6), min_size=80, max_size=80), min_size=1, max_size=4),
)
def test_one_patient_moves_a_sheet_by_its_bound_at_most(task: EvaluatedTask, numbers: list[list[float]]) -> None:
    sheet = sheet_of(task)
    patients = [
        {
            name: np.array(part)
            for name, part in sheet.parts(np.array(of_patient[: sheet.size] + [0.0] * 80)[: sheet.size]).items()
        }
        for of_patient in numbers
    ]
    with_all = tally(sheet, patients, smallest_cohort=1)
    without_last = tally(sheet, patients[:-1], smallest_cohort=0)
    assert np.linalg.norm(with_all - without_last) <= sheet.bound * (1 + 1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_a_bound_is_the_root_of_the_number_of_blocks(task: EvaluatedTask) -> None:
    sheet = sheet_of(task)
    full = {block.name: np.eye(1, block.bins)[0] for block in sheet.blocks}
    assert np.linalg.norm(tally(sheet, [full], smallest_cohort=1)) == pytest.approx(sheet.bound)
    assert sheet.bound == math.sqrt(len(sheet.blocks))
    assert sheet.blocks[0].name == "patients"
    assert sum(part.size for part in sheet.parts(np.zeros(sheet.size)).values()) == sheet.size


def test_what_lies_outside_counts_at_the_ends() -> None:
    block = Block("hd95_mm", 4, 0.0, 40.0)
    np.testing.assert_array_equal(block.count([-3.0, 400.0, 40.0, 10.0]), [0.25, 0.25, 0.0, 0.5])
    np.testing.assert_array_equal(block.count([]), np.zeros(4))


def test_bins_of_a_logarithm_have_one_ratio() -> None:
    block = Block("seconds", 5, 1 / 32, 32.0, is_log=True)
    np.testing.assert_allclose(block.edges[1:] / block.edges[:-1], 4.0)
    np.testing.assert_allclose(block.centres, [1 / 16, 1 / 4, 1, 4, 16])


@pytest.mark.parametrize("numbers", [[-0.1, 0, 0, 0], [np.nan, 0, 0, 0], [1.0, 0, 0]])
def test_a_share_that_is_none_is_refused(numbers: list[float]) -> None:
    with pytest.raises(ValueError, match="a share is 4 numbers from 0"):
        bounded(SMALL.block("dice"), np.array(numbers))


def test_values_must_be_finite() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        SMALL.block("dice").count([math.inf])


def test_a_vector_of_another_length_is_no_sheet() -> None:
    with pytest.raises(ValueError, match="the sheet has 8 counts"):
        SMALL.parts(np.zeros(9))


def test_every_task_has_its_sheet() -> None:
    two = ("elsewhere", "nodule")
    tasks = (
        Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice"),
        Segmentation(kind="segmentation", classes=("nodule",), measure="dice"),
        Classification(kind="classification", classes=two, positive="nodule"),
        MultiTask(kind="multitask", classes=("nodule",), positive="nodule"),
    )
    assert tuple(kind_of(task) for task in tasks) == TASKS
