"""Which measurements of lesions go with a class, as far as a hospital's own lesions tell. Association, not cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold

from fedward.evaluation.classification import auc

#: With fewer lesions of either kind, or from fewer patients, the numbers would be chance.
MINIMUM_LESIONS, MINIMUM_PATIENTS = 20, 10

_TREES, _LEAF = 200, 3
_FOLDS = 5
_SHUFFLES = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasurementImportance:
    """What one measurement is worth to the forest.

    Attributes:
        name: The measurement.
        fall: By how much the AUC falls, on average, when this measurement is shuffled among the lesions; about 0, or a
            little below, where the forest does not need it. Measurements that say the same share their worth.
        deviation: The standard deviation of that fall over the shuffles.
    """

    name: str
    fall: float
    deviation: float


@dataclass(frozen=True)
class Importances:
    """What all measurements together are worth, and each of them.

    Attributes:
        auc: Of a random forest, on lesions of patients whom it was not grown on.
        lesions: How many lesions.
        positives: How many of them are positive.
        patients: Of how many patients.
        measurements: By falling worth.
    """

    auc: float
    lesions: int
    positives: int
    patients: int
    measurements: tuple[MeasurementImportance, ...]


def measurement_importances(
    values: ArrayLike, positive: ArrayLike, patients: Sequence[str], *, names: Sequence[str], seed: int = 0
) -> Importances | None:
    """Grow random forests that tell positive lesions by their measurements, and shuffle each measurement in turn.

    Every forest is asked about lesions of other patients than those that it was grown on.

    Args:
        values: ``(lesion, measurement)``, finite.
        positive: ``(lesion,)``, booleans.
        patients: ``(lesion,)``, whose lesion it is.
        names: ``(measurement,)``.
        seed: Of the forests, the folds and the shuffles.

    Returns:
        None with fewer than 20 lesions, or lesions of fewer than 10 patients, of either kind.

    Raises:
        ValueError: shapes that do not agree, or numbers that are not finite.

    Source:
        Breiman, Random Forests, Machine Learning 45:5 (2001), section 10.
    """
    table, truth, whose = np.asarray(values, np.float64), np.asarray(positive, np.bool_), np.asarray(patients)
    if table.ndim != 2 or not len(table) == truth.size == whose.size or table.shape[1] != len(names):
        raise ValueError(
            f"one row a lesion and one column a name is needed, got {table.shape} for {truth.size} lesions"
        )
    if not np.isfinite(table).all():
        raise ValueError("measurements must be finite")
    kinds = [truth, ~truth]
    if any(kind.sum() < MINIMUM_LESIONS or np.unique(whose[kind]).size < MINIMUM_PATIENTS for kind in kinds):
        return None
    scores = np.zeros((1 + len(names), _SHUFFLES, truth.size))
    generator = np.random.default_rng(seed)
    for forest, asked in _forests(table, truth, whose, seed=seed):
        scores[:, :, asked] = _shuffled_scores(forest, table[asked], generator)
    worth = np.array([[_auc(of_shuffle, truth) for of_shuffle in of_column] for of_column in scores])
    falls = worth[0] - worth[1:]
    found = [
        MeasurementImportance(name, float(fall.mean()), float(fall.std()))
        for name, fall in zip(names, falls, strict=True)
    ]
    return Importances(
        auc=float(worth[0, 0]),
        lesions=truth.size,
        positives=int(truth.sum()),
        patients=np.unique(whose).size,
        measurements=tuple(sorted(found, key=lambda each: -each.fall)),
    )


def _forests(
    table: Floats, truth: NDArray[np.bool_], whose: NDArray[np.str_], *, seed: int
) -> Iterator[tuple[RandomForestClassifier, NDArray[np.intp]]]:
    """Grow a forest a fold, and say which lesions it has not seen; no patient is on both sides."""
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for grown, asked in folds.split(table, truth, whose):
        forest = RandomForestClassifier(
            _TREES, min_samples_leaf=_LEAF, class_weight="balanced", random_state=seed, n_jobs=1
        )
        yield forest.fit(table[grown], truth[grown]), asked


def _shuffled_scores(forest: RandomForestClassifier, rows: Floats, generator: np.random.Generator) -> Floats:
    """Give the positive class's score ``(1 + measurement, shuffle, lesion)``: as it is, then with each one shuffled."""
    lesions, columns = rows.shape
    asked = np.broadcast_to(rows, (1 + columns, _SHUFFLES, lesions, columns)).copy()
    for column in range(columns):
        for shuffle in range(_SHUFFLES):
            asked[1 + column, shuffle, :, column] = generator.permutation(rows[:, column])
    scores = forest.predict_proba(asked.reshape(-1, columns))[:, 1]
    return np.asarray(scores.reshape(1 + columns, _SHUFFLES, lesions), np.float64)


def _auc(scores: Floats, truth: NDArray[np.bool_]) -> float:
    value = auc(scores, truth)
    if value is None:
        raise ValueError("both kinds of lesions are needed")
    return value
