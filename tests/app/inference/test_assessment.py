from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedward.inference.assessment import assessing, assessment_of
from fedward.inference.findings import Assessment, Findings
from fedward.inference.model import LoadedModel
from fedward.inference.own_record import Calibration, OwnRecord
from fedward.settings.job import Input, Window
from fedward.settings.tasks import AnyTask, Classification, MultiTask, Segmentation
from model_cases import SAID, facts_of

KINDS = Classification(kind="classification", classes=("cyst", "scar", "tumour"), positive="tumour")
GRADES = MultiTask(kind="multitask", classes=("benign", "malignant"), operating_point=0.3)


def model(task: AnyTask, *, temperature: float | None = None) -> LoadedModel:
    window = Window(kind="window", low=-1000, high=200)
    calibration = temperature and Calibration(temperature=temperature, lesions=40, error_before=0.2, error_after=0.1)
    own = OwnRecord(
        model_sha256="00" * 32,
        detector_sha256=None,
        made=datetime(2026, 1, 1, tzinfo=UTC),
        judged=40,
        calibration=calibration,
        association=None,
    )
    return LoadedModel(
        facts=facts_of("judge"),
        network=torch.nn.Identity(),
        input=Input(modality="CT", spacing_mm=(1, 1, 1), intensity=window),
        task=task,
        patch_size=(8, 8, 8),
        own=own if calibration else None,
    )


def probabilities(assessment: Assessment) -> list[float]:
    return [each.probability for each in assessment.probabilities]


def test_probabilities_are_the_softmax_in_the_order_of_the_classes() -> None:
    logits = np.log([0.2, 0.1, 0.7])
    assessment = assessment_of(model(KINDS), logits)
    assert probabilities(assessment) == pytest.approx([0.2, 0.1, 0.7])
    assert [each.class_name for each in assessment.probabilities] == ["cyst", "scar", "tumour"]
    assert (assessment.called, assessment.is_positive, assessment.positive_probability) == ("tumour", True, 0.7)
    assert (assessment.calibrated_on, assessment.diameter_mm) == (None, None)


def test_below_the_operating_point_it_is_called_the_likeliest_of_the_others() -> None:
    assert assessment_of(model(KINDS), np.log([0.15, 0.36, 0.49])).called == "scar"
    assert assessment_of(model(KINDS), np.log([0.25, 0.25, 0.5])).called == "tumour", "at the point itself it counts"


def test_a_low_operating_point_calls_what_is_less_likely_than_not() -> None:
    assessment = assessment_of(model(GRADES), np.array([0.0, np.log(0.4 / 0.6)]), diameter_mm=7.26)
    assert probabilities(assessment) == pytest.approx([0.6, 0.4])
    assert (assessment.called, assessment.operating_point, assessment.diameter_mm) == ("malignant", 0.3, 7.3)


def test_a_hospitals_temperature_flattens_what_a_network_is_too_sure_of() -> None:
    logits = np.array([0.0, 4.0])
    sure, calibrated = (assessment_of(model(GRADES, temperature=t), logits) for t in (None, 2.0))
    assert sure.positive_probability == round(1 / (1 + np.exp(-4.0)), 3)
    assert calibrated.positive_probability == round(1 / (1 + np.exp(-2.0)), 3)
    assert (sure.calibrated_on, calibrated.calibrated_on) == (None, 40)


def test_a_model_that_only_outlines_judges_nothing() -> None:
    with pytest.raises(ValueError, match="judges nothing"):
        assessing(model(Segmentation(kind="segmentation", classes=("one",), measure="dice")))


def test_grades_that_are_more_than_two_are_the_positive_one_and_the_rest() -> None:
    assert GRADES.answers == ("benign", "malignant")
    assert MultiTask(kind="multitask", classes=("malignant", "benign")).answers == ("benign", "malignant")
    three = MultiTask(kind="multitask", classes=("benign", "unclear", "malignant"))
    assert three.answers == ("not malignant", "malignant")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"called": "benign"}, "does not follow"),
        ({"operating_point": 0.8}, "does not follow"),
        ({"called": "scar"}, "must differ and hold"),
        ({"probabilities": [SAID["probabilities"][0], {"class_name": "malignant", "probability": 0.9}]}, "sum to 1"),
        ({"probabilities": [SAID["probabilities"][1]] * 2}, "must differ"),
    ],
)
def test_an_assessment_that_contradicts_itself_cannot_be(change: dict[str, object], match: str) -> None:
    assert Assessment.model_validate(SAID).is_positive
    with pytest.raises(ValidationError, match=match):
        Assessment.model_validate({**SAID, **change})


def test_an_image_called_positive_is_a_finding_and_another_none() -> None:
    uids = {"study_instance_uid": "1.2", "series_instance_uid": "1.2.3", "task": "classification", "kind": "image"}
    assert Findings.model_validate({**uids, "assessment": SAID}).has_findings
    benign = {**SAID, "operating_point": 0.8, "called": "benign"}
    assert not Findings.model_validate({**uids, "assessment": benign}).has_findings
    with pytest.raises(ValidationError, match="one assessment"):
        Findings.model_validate(uids)
    with pytest.raises(ValidationError, match="one assessment"):
        Findings.model_validate({**uids, "kind": "lesions", "assessment": SAID})
