from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance

from fedward.evaluation.importance import measurement_importances

NAMES = ("decides", "noise", "constant")


def lesions(count: int = 90, *, patients: int = 30, seed: int = 1) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Lesions whose first measurement decides, but for one in ten, whether they are positive."""
    generator = np.random.default_rng(seed)
    decides = generator.normal(size=count)
    positive = (decides > 0.2) ^ (generator.uniform(size=count) < 0.1)
    values = np.stack([decides, generator.normal(size=count), np.full(count, 3.0)], axis=1)
    return values, positive, [f"p{index % patients}" for index in range(count)]


def test_the_measurement_that_decides_is_worth_most_and_a_constant_nothing() -> None:
    values, positive, patients = lesions()
    found = measurement_importances(values, positive, patients, names=NAMES)
    assert found is not None
    first, *others = found.measurements
    assert first.name == "decides"
    assert first.fall > 0.2
    assert all(abs(other.fall) < 0.05 for other in others)
    assert next(other for other in others if other.name == "constant").fall == 0
    assert found.auc > 0.8
    assert (found.lesions, found.positives, found.patients) == (90, int(positive.sum()), 30)


def test_labels_that_no_measurement_explains_have_no_worth_to_share() -> None:
    values, positive, patients = lesions(120)
    shuffled = np.random.default_rng(5).permutation(positive)
    found = measurement_importances(values, shuffled, patients, names=NAMES)
    assert found is not None
    assert abs(found.auc - 0.5) < 0.15
    assert all(abs(each.fall) < 0.12 for each in found.measurements)


def test_a_patients_lesions_never_vouch_for_each_other() -> None:
    """A number that names the patient tells the class of every lesion seen before, and of no other patient's."""
    patients = [f"p{index // 4:02}" for index in range(160)]
    positive = np.random.default_rng(2).permutation(np.arange(40) % 2 == 0).repeat(4)
    values = np.stack([np.arange(160) // 4, np.zeros(160)], axis=1)
    found = measurement_importances(values, positive, patients, names=("patient", "nothing"))
    assert found is not None
    forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=0).fit(values, positive)
    assert forest.score(values, positive) > 0.95
    assert found.auc < 0.65


def test_it_ranks_as_scikit_learns_own_permutation_importance_does() -> None:
    generator = np.random.default_rng(8)
    values = generator.normal(size=(400, 3))
    positive = values @ [2.0, 1.0, 0.0] + generator.normal(size=400) * 0.3 > 0
    found = measurement_importances(values, positive, [f"p{k}" for k in range(400)], names=("two", "one", "none"))
    forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=0).fit(values[:200], positive[:200])
    other = permutation_importance(
        forest, values[200:], positive[200:], scoring="roc_auc", n_repeats=20, random_state=0
    ).importances_mean
    assert found is not None
    assert [each.name for each in found.measurements] == ["two", "one", "none"]
    assert [each.fall for each in found.measurements] == pytest.approx(sorted(other, reverse=True), abs=0.08)


def test_the_same_lesions_give_the_same_numbers() -> None:
    values, positive, patients = lesions()
    assert measurement_importances(values, positive, patients, names=NAMES) == measurement_importances(
        values, positive, patients, names=NAMES
    )


@pytest.mark.parametrize(("count", "patients"), [(30, 30), (90, 9)], ids=["few lesions", "few patients"])
def test_too_few_lesions_or_patients_say_nothing(count: int, patients: int) -> None:
    values, positive, whose = lesions(count, patients=patients)
    assert measurement_importances(values, positive, whose, names=NAMES) is None


def test_what_is_not_finite_or_does_not_fit_is_refused() -> None:
    values, positive, patients = lesions()
    with pytest.raises(ValueError, match="one column a name"):
        measurement_importances(values, positive, patients, names=NAMES[:2])
    values[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        measurement_importances(values, positive, patients, names=NAMES)
