from __future__ import annotations

import pytest

from fedward.inference.findings import Assessment, Findings
from fedward.inference.model import LoadedModel
from fedward.report import words
from model_cases import SAID


def findings(**changes: object) -> Findings:
    return Findings.model_validate(
        {
            "study_instance_uid": "1.2",
            "series_instance_uid": "1.2.3",
            "kind": "lesions",
            "minimum_lesion_mm": 6.0,
            "minimum_probability": 0.75,
            "lesions": (),
            **changes,
        }
    )


def test_nothing_found_is_said_without_promising_health() -> None:
    assert words.headline(findings()) == "No lesion was found"
    assert "no region of at least 6 mm and a mean probability of at least 0.75 in" in words.explanation(findings())
    assert "no region in this" in words.explanation(findings(minimum_lesion_mm=0.0, minimum_probability=0.0))
    assert "does not prove" in words.explanation(findings())


def test_a_model_without_privacy_says_so(model: LoadedModel) -> None:
    assert words.privacy(model.facts).startswith("Not private")


def test_a_private_model_states_its_bound(model: LoadedModel) -> None:
    private = model.facts.model_copy(update={"private": True, "epsilon": 8.0, "delta": 1e-5})
    assert "epsilon 8 at delta 1e-05" in words.privacy(private)


def test_one_open_ancestor_is_named_as_a_cause(model: LoadedModel) -> None:
    descended = model.facts.model_copy(update={"stands_on": ("lung_nodule_segmentation-1",)})
    assert "this model, or a release that it stands on, was trained without" in words.privacy(descended)
    assert "or a release" not in words.privacy(model.facts)


def test_a_release_around_the_gate_is_shouted(model: LoadedModel) -> None:
    assert "none to compare with" in words.gate(model.facts)
    assert "no hospital found it worse" in words.gate(model.facts.model_copy(update={"gate": "passed"}))
    assert "WITHOUT PASSING" in words.gate(model.facts.model_copy(update={"gate": "without_gate"}))


def test_an_unverified_signature_is_shouted(model: LoadedModel) -> None:
    assert words.signature(model.facts) == "verified at this site"
    assert "NOT VERIFIED" in words.signature(model.facts.model_copy(update={"signature_verified": False}))


@pytest.mark.parametrize(
    ("point", "text"),
    [((12.34, -3.0, -100.0), "L 12.3, A 3.0, F 100.0"), ((-0.5, 7.0, 0.0), "R 0.5, P 7.0, H 0.0")],
)
def test_a_position_names_the_patients_sides(point: tuple[float, float, float], text: str) -> None:
    assert words.position(point) == text


def test_a_cut_list_warns() -> None:
    assert words.left_out(findings()) == ""
    assert words.left_out(findings(left_out=31)).startswith("31 smaller regions are not listed")
    assert words.pictures_left_out(12, 40) == "The 12 largest of 40 are shown."
    assert words.pictures_left_out(3, 3) == ""


def test_a_sentence_begins_with_a_capital_and_ends_with_a_stop() -> None:
    assert words.sentence("slice 3 is missing") == "Slice 3 is missing."
    assert words.sentence("Done.") == "Done."
    assert words.sentence("") == ""


def test_an_image_is_called_and_what_that_is_worth_is_said() -> None:
    judged = findings(task="classification", kind="image", assessment=SAID)
    assert words.headline(judged) == "The image is called malignant"
    assert "as a whole and outlined nothing. It is called malignant from a probability of 0.5 on." in (
        words.explanation(judged)
    )
    bare, calibrated = (Assessment.model_validate({**SAID, "calibrated_on": count}) for count in (None, 1))
    assert "are not calibrated. A call is not a diagnosis." in words.assessment_note(bare)
    assert "calibrated on 1 lesion of this hospital's own patients" in words.assessment_note(calibrated)


def test_what_a_model_did_not_see_of_an_image_is_a_warning() -> None:
    judged = findings(task="classification", kind="image", assessment=SAID)
    assert words.only_middle(judged) == ""
    assert "saw its middle alone" in words.only_middle(judged.model_copy(update={"only_middle": True}))


def test_no_probability_is_written_as_certainty() -> None:
    assert [words.probability(value) for value in (0.0, 0.0004, 0.001, 0.5, 0.999, 1.0)] == [
        "< 0.001", "< 0.001", "0.001", "0.500", "0.999", "> 0.999",
    ]  # fmt: skip


def test_a_measurement_without_words_keeps_its_name() -> None:
    assert words.measurement("axes_ratio") == "Short over long axis"
    assert words.measurement("sphericity") == "sphericity"
