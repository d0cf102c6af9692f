"""What is read from counts is what the exact numbers say, up to what bins and noise hide."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from fedward.evaluation.calibration import expected_calibration_error, reliability, with_temperature
from fedward.evaluation.exact import site_figures, subgroups
from fedward.evaluation.figures import figures_of, froc_of
from fedward.evaluation.froc import Candidate, ScanCandidates
from fedward.evaluation.measure import ScanFacts
from fedward.evaluation.shares import MISSED, best_scores, counts_of, share_of
from fedward.evaluation.sheet import sheet_of
from fedward.randomness import Secret, Seeded
from fedward.site_counts import noised_counts
from scan_cases import detected_scans, scored_scans

LESIONS, SCORES = sheet_of("lesions"), sheet_of("classification")


@pytest.fixture
def generator() -> np.random.Generator:
    return Seeded(11).generator("figures")


def test_means_lie_within_a_bin_of_the_exact_ones(generator: np.random.Generator) -> None:
    scans = detected_scans(generator, patients=200)
    found = figures_of(counts_of(scans, LESIONS, task="lesions", smallest_cohort=10), "lesions")
    exact = site_figures(scans, threshold=0.5, generator=generator)
    assert set(found.means) == set(exact.means)
    assert found.patients.value == exact.patients == 200
    for name, mean in found.means.items():
        assert abs(mean.value - exact.means[name].value) <= mean.within, name
        assert exact.means[name].low <= exact.means[name].value <= exact.means[name].high


def test_the_froc_curve_is_the_exact_one_at_the_edges_of_its_bins(generator: np.random.Generator) -> None:
    scans = detected_scans(generator, patients=150)
    found = figures_of(counts_of(scans, LESIONS, task="lesions", smallest_cohort=10), "lesions").froc
    assert found is not None
    for place in range(1, 21):
        threshold = 1 - place / 20
        hits = sum(score >= threshold - 1e-12 for scan in scans for score in best_scores(scan))
        false = sum(
            one.score >= threshold - 1e-12
            for scan in scans
            for one in (scan.candidates.candidates if scan.candidates else ())
            if not one.lesions
        )
        assert found.y[place] == pytest.approx(hits / 150)
        assert found.x[place] == pytest.approx(false / 150)


def test_scores_agree_with_scikit_learn(generator: np.random.Generator) -> None:
    scans = scored_scans(generator, patients=300)
    scores = np.array([scan.scores[0] for scan in scans])
    truth = np.array([scan.positive[0] for scan in scans])
    found = figures_of(counts_of(scans, SCORES, task="classification", smallest_cohort=10), "classification").classified
    exact = site_figures(scans, threshold=0.5, generator=generator).classified
    assert found is not None
    assert found.auc is not None
    assert exact is not None
    assert exact.auc is not None
    area = roc_auc_score(truth, scores)
    assert exact.auc.value == pytest.approx(area)
    assert abs(found.auc.value - area) <= found.auc.within < 0.05
    called = scores >= 0.5
    (true_negative, false_positive), (false_negative, true_positive) = confusion_matrix(truth, called)
    for one in (found, exact):
        counts = (one.true_negatives, one.false_positives, one.false_negatives, one.true_positives)
        assert counts == pytest.approx((true_negative, false_positive, false_negative, true_positive))
        assert one.f1 == pytest.approx(f1_score(truth, called))
        assert one.accuracy == pytest.approx(np.mean(called == truth))


def test_several_scores_of_one_patient_count_as_one_of_each_class(generator: np.random.Generator) -> None:
    scans = [
        ScanFacts(
            f"patient {k}", 0.5, scores=tuple(generator.random(6)), positive=(True, True, False, False, False, False)
        )
        for k in range(40)
    ]
    parts = SCORES.parts(counts_of(scans, SCORES, task="classification", smallest_cohort=10))
    assert parts["positives"].sum() == pytest.approx(40)
    assert parts["negatives"].sum() == pytest.approx(40)
    weights = np.array([1 / 2 if is_so else 1 / 4 for scan in scans for is_so in scan.positive])
    scores = np.array([score for scan in scans for score in scan.scores])
    truth = np.array([is_so for scan in scans for is_so in scan.positive])
    area = figures_of(np.concatenate(list(parts.values())), "classification").classified
    assert area is not None
    assert area.auc is not None
    assert abs(area.auc.value - roc_auc_score(truth, scores, sample_weight=weights)) <= area.auc.within


def test_a_temperature_from_noised_counts_lowers_the_error_on_held_out_patients(
    generator: np.random.Generator,
) -> None:
    fitted_on = [scored_scans(generator, patients=400, sharpness=3.0) for _ in range(3)]
    total = np.sum(
        [
            noised_counts(
                counts_of(scans, SCORES, task="classification", smallest_cohort=10),
                bound=SCORES.bound,
                noise_multiplier=1.0,
                secret=Secret(),
            )
            for scans in fitted_on
        ],
        axis=0,
    )
    deviation = SCORES.bound * np.sqrt(3)
    calibrated = figures_of(total, "classification", deviation=deviation).calibrated
    assert calibrated is not None
    assert calibrated.temperature is not None
    assert 2.0 < calibrated.temperature < 4.5, "the scores were said three times too loud"
    assert calibrated.ece_with_temperature is not None
    held_out = scored_scans(generator, patients=3000, sharpness=3.0)
    said = np.array([scan.scores[0] for scan in held_out]).clip(1e-9, 1 - 1e-9)
    truth = np.array([scan.positive[0] for scan in held_out])
    logits = np.column_stack([np.zeros_like(said), np.log(said) - np.log1p(-said)])
    errors = [
        expected_calibration_error(reliability(with_temperature(logits, temperature)[:, 1], truth))
        for temperature in (1.0, calibrated.temperature)
    ]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[1] < 0.5 * errors[0]


def test_voxels_that_say_what_comes_true_are_calibrated() -> None:
    scans = [
        ScanFacts(
            f"patient {k}",
            0.5,
            lesions=0,
            true_voxels=np.arange(0.5, 10) * 10,
            false_voxels=100 - np.arange(0.5, 10) * 10,
        )
        for k in range(12)
    ]
    found = figures_of(counts_of(scans, LESIONS, task="lesions", smallest_cohort=10), "lesions").calibrated
    assert found is not None
    assert found.ece.value == pytest.approx(0, abs=1e-9)
    assert found.temperature == pytest.approx(1, abs=1e-3)


def test_noise_hides_a_mean_rather_than_making_one_up() -> None:
    nobody = noised_counts(np.zeros(LESIONS.size), bound=LESIONS.bound, noise_multiplier=4.0, secret=Secret())
    deviation = 4.0 * LESIONS.bound
    shown = figures_of(nobody.clip(None, deviation / 2), "lesions", deviation=deviation)
    assert shown.means == {}


def test_the_noise_of_a_mean_is_what_it_says() -> None:
    scans = detected_scans(Seeded(1).generator("noise"), patients=400)
    exact = counts_of(scans, LESIONS, task="lesions", smallest_cohort=10)
    deviation = 0.5 * LESIONS.bound
    found = [
        figures_of(
            noised_counts(exact, bound=LESIONS.bound, noise_multiplier=0.5, secret=Secret()),
            "lesions",
            deviation=deviation,
        ).means["dice"]
        for _ in range(300)
    ]
    assert np.std([one.value for one in found]) == pytest.approx(np.mean([one.noise for one in found]), rel=0.2)


def test_a_missed_lesion_and_a_scan_with_too_many_marks() -> None:
    scan = ScanFacts(
        "one",
        0.5,
        lesions=2,
        candidates=ScanCandidates((Candidate(0.9, (0,)), *[Candidate(0.52)] * 40), 2),
    )
    assert best_scores(scan) == [0.9, MISSED]
    share = share_of([scan], LESIONS, task="lesions")
    assert share["found_at"][0] == share["found_at"][19] == 0.5
    assert counts_of([scan], LESIONS, task="lesions", smallest_cohort=1).max() <= 1
    assert froc_of(np.zeros(21), np.zeros(20), patients=5) is None


def test_subgroups_share_out_every_scan(generator: np.random.Generator) -> None:
    scans = detected_scans(generator, patients=30)
    tables = subgroups(scans, generator)
    assert set(tables) == {"sex", "age", "maker", "slices"}
    for groups in tables.values():
        assert sum(group.patients for group in groups) == sum(group.scans for group in groups) == 30
    female = next(group for group in tables["sex"] if group.name == "female")
    mean = np.mean([scan.dice[0] for scan in scans if scan.groups.sex == "female"])
    assert female.means["dice"].value == pytest.approx(mean)
