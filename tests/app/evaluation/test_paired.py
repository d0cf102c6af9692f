from __future__ import annotations

import pytest

from fedward.evaluation.paired import differences, patient_scores
from fedward.evaluation.summary import CaseScore


@pytest.mark.parametrize(
    ("cases", "score"),
    [
        ([CaseScore("p", (0.8, 0.4), 0)], 0.6),
        ([CaseScore("p", (0.8,), 1)], 0.4),
        ([CaseScore("p", (0.9,), 0), CaseScore("p", (0.3, 0.3), 0)], 0.5),
        ([CaseScore("p", (), 0)], 1.0),
        ([CaseScore("p", (), 3)], 0.0),
        ([CaseScore("p", (), class_dice=(None, None))], 1.0),
    ],
    ids=["lesions", "a false positive", "several scans", "nothing to find", "found where nothing is", "no class"],
)
def test_a_patients_score_counts_false_positives_like_missed_lesions(cases: list[CaseScore], score: float) -> None:
    assert patient_scores(cases) == {"p": pytest.approx(score)}


def test_a_patient_in_whom_nothing_can_be_scored_is_left_out() -> None:
    assert patient_scores([CaseScore("p", ())]) == {}


def test_each_patient_is_compared_with_itself() -> None:
    old = [CaseScore("a", (0.5,), 0), CaseScore("b", (0.9,), 0), CaseScore("c", (0.5,), 0)]
    new = [CaseScore("b", (0.7,), 0), CaseScore("a", (0.5,), 1), CaseScore("d", (1.0,), 0)]
    assert differences(new, old) == pytest.approx((-0.25, -0.2))
