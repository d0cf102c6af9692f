from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.froc import compute_froc_curve_data, compute_froc_score

from fedward.evaluation.froc import Candidate, Froc, ScanCandidates, froc, scan_candidates
from fedward.evaluation.lesions import score_lesions


@st.composite
def scans(draw: st.DrawFn) -> list[ScanCandidates]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    given = []
    for _ in range(draw(st.integers(0, 4))):
        lesions = int(generator.integers(0, 4))
        found = [
            (int(generator.integers(0, lesions)),) if lesions and generator.random() < 0.5 else () for _ in range(5)
        ]
        scores = np.round(generator.random(5), 1)
        given.append(ScanCandidates(tuple(map(Candidate, scores.tolist(), found)), lesions))
    return given


def test_a_curve_by_hand() -> None:
    first = ScanCandidates((Candidate(0.9, (0,)), Candidate(0.8), Candidate(0.7, (1,)), Candidate(0.3, (0,))), 2)
    second = ScanCandidates((Candidate(0.8),), 1)
    curve = froc([first, second])
    assert curve is not None
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7]
    assert curve.false_positives_per_scan.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(curve.sensitivity, [0, 1 / 3, 1 / 3, 2 / 3])
    assert curve.sensitivity_at(5.0) == pytest.approx(2 / 3)


@settings(deadline=None)
@given(scans())
def test_the_curve_is_monais(given: list[ScanCandidates]) -> None:
    curve, total = froc(given), sum(scan.lesions for scan in given)
    if not total:
        assert curve is None
        return
    assert curve is not None
    best = [
        max((c.score for c in scan.candidates if lesion in c.lesions), default=None)
        for scan in given
        for lesion in range(scan.lesions)
    ]
    false_scores = np.array([c.score for scan in given for c in scan.candidates if not c.lesions])
    true_scores = np.array([score for score in best if score is not None])
    if not false_scores.size or not true_scores.size:
        return
    rates, sensitivity = compute_froc_curve_data(false_scores, true_scores, total, len(given))
    # MONAI leaves out the lowest threshold, where everything is marked.
    cut = Froc(curve.thresholds[:-1], curve.false_positives_per_scan[:-1], curve.sensitivity[:-1])
    np.testing.assert_allclose(cut.false_positives_per_scan, rates[::-1])
    np.testing.assert_allclose(cut.sensitivity, sensitivity[::-1])
    asked = (0.25, 0.5, 1, 2, 4, 8)
    assert cut.mean_sensitivity(asked) == pytest.approx(compute_froc_score(rates, sensitivity, eval_thresholds=asked))


def balls(*places: tuple[int, int, int, int], shape: tuple[int, int, int] = (20, 30, 30)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for z, y, x, size in places:
        mask[z : z + size, y : y + size, x : x + size] = True
    return mask


def test_candidates_are_matched_with_the_lesions_they_touch() -> None:
    truth = balls((2, 2, 2, 5), (10, 10, 10, 5), (2, 20, 20, 2))
    predicted = balls((3, 3, 3, 5), (15, 25, 2, 3), (2, 20, 20, 2))
    probability = np.where(predicted, 0.6, 0.1)
    probability[15:18, 25:28, 2:5] = 0.9
    scan = scan_candidates(predicted, probability, truth, affine=np.eye(4), minimum_lesion_mm=4.0)
    assert scan.lesions == 2
    assert sorted((round(c.score, 6), c.lesions) for c in scan.candidates) == [(0.6, (0,)), (0.9, ())]


def test_the_curves_end_agrees_with_the_lesion_scores() -> None:
    generator = np.random.default_rng(5)
    for _ in range(10):
        spots = [tuple(generator.integers(0, (16, 26, 26))) for _ in range(8)]
        truth = balls(*((*spot, 4) for spot in spots[:4]))
        predicted = balls(*((*spot, 3) for spot in spots[2:]))
        scan = scan_candidates(predicted, np.full(truth.shape, 0.5), truth, affine=np.eye(4), minimum_lesion_mm=0)
        scores = score_lesions(predicted, truth, affine=np.eye(4), minimum_lesion_mm=0)
        curve = froc([scan])
        assert curve is not None
        assert curve.false_positives_per_scan[-1] == scores.false_positives
        assert curve.sensitivity[-1] == pytest.approx(np.mean(np.array(scores.dice) > 0))


def test_no_prediction_finds_nothing_at_any_threshold() -> None:
    curve = froc([ScanCandidates((), 3)])
    assert curve is not None
    assert (curve.mean_sensitivity(), curve.thresholds.tolist()) == (0.0, [np.inf])


@pytest.mark.parametrize("given", [[], [ScanCandidates((Candidate(0.5),), 0)]])
def test_without_a_true_lesion_there_is_no_curve(given: list[ScanCandidates]) -> None:
    assert froc(given) is None


def test_grids_must_be_the_same() -> None:
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(ValueError, match="one grid"):
        scan_candidates(mask, np.ones((2, 2, 3)), mask, affine=np.eye(4), minimum_lesion_mm=0)
