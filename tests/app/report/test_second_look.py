"""What a radiologist reads of doubt, of unfamiliar images, and of where an answer comes from."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from fedward.inference.appraisal import Appraisal
from fedward.inference.doubt import Doubt, FindingDoubt
from fedward.inference.heat import Explanation, Heat
from fedward.inference.likeness import Compared, Likeness
from fedward.inference.model import LoadedModel
from fedward.randomness import Secret
from fedward.report import second_look
from fedward.report.document import Report
from fedward.report.heat_colours import coloured
from fedward.report.pictures import key_slices
from fedward.report.png import encode_png
from fedward.report.schema import schema_text
from fedward.report.window import DisplayWindow
from fedward.report.write import write_report
from second_look_cases import scan
from small_cases import volume_of
from trust_cases import NOW

THICK = Compared(trait="slice_spacing", unit="mm", value=5.0, low=0.56, high=2.75, is_inside=False)
DARK = Compared(trait="dark_intensity", unit="HU", value=24.0, low=None, high=-950.0, is_inside=False)
FINE = Compared(trait="pixel_spacing", unit="mm", value=0.7, low=0.65, high=0.75, is_inside=True)


def doubtful(*numbers: int | None, second_read: bool = True) -> Doubt:
    findings = tuple(
        FindingDoubt(
            number=number,
            outline_deviation=0.31,
            call_deviation=None,
            entropy=0.5,
            disagreement=0.2,
            second_read=second_read,
        )
        for number in numbers
    )
    return Doubt(method="dropout", answers=20, second_read_above=0.15, findings=findings)


def test_a_doubtful_finding_is_named_in_plain_words_before_the_findings() -> None:
    (one,) = second_look.warnings(doubtful(2), None)
    assert one.startswith("Lesion 2 needs a second read: the model contradicts itself there")
    assert "0.15" in one
    assert second_look.warnings(doubtful(1, 2, 5), None)[0].startswith("Lesions 1, 2 and 5 need a second read")
    assert second_look.warnings(doubtful(None), None)[0].startswith("This image needs a second read")
    assert second_look.warnings(doubtful(1), None, "structures")[0].startswith("Structure 1 needs a second read")
    assert second_look.warnings(doubtful(1, second_read=False), Likeness(known_from="nothing")) == ()


def test_an_unfamiliar_image_is_named_with_its_value_and_the_training_range() -> None:
    (said,) = second_look.warnings(None, Likeness(known_from="exact", compared=(THICK, DARK, FINE)))
    assert "Slice spacing 5 mm: the model was trained on 0.56 to 2.75 mm" in said
    assert "Dark intensities (5th percentile) 24 HU: the model was trained on less than −950 HU" in said
    assert "Pixel spacing" not in said
    assert second_look.warnings(None, Likeness(known_from="exact", compared=(FINE,))) == ()


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(None, None, "any value"), (9.0, None, "9 mm and more"), (None, 0.45, "less than 0.45 mm"), (1, 2, "1 to 2 mm")],
)
def test_open_ranges_are_said_as_such(low: float | None, high: float | None, words: str) -> None:
    assert second_look.trained(THICK.model_copy(update={"low": low, "high": high})) == words


@pytest.mark.parametrize("reason", ["turned_off", "no_dropout", "one_release"])
def test_what_was_not_measured_is_said_and_why(reason: str) -> None:
    said = second_look.how_doubt(Doubt(method="none", reason=reason, second_read_above=0.15))
    assert {"turned_off": "turned", "no_dropout": "without dropout", "one_release": "only one"}[reason] in said
    assert not any(character.isdigit() for character in said), "no number stands for what was not measured"


def test_what_is_known_of_the_training_images_is_said_with_its_source() -> None:
    assert "not known" in second_look.how_alike(Likeness(known_from="nothing"))
    noised = second_look.how_alike(Likeness(known_from="noised", unknown=("slice_spacing",)))
    assert "added noise" in noised
    assert "Too little is known of: slice spacing." in noised


def test_a_coloured_png_gives_back_every_value_and_faint_places_let_the_image_through() -> None:
    heat = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    colours = coloured(heat)
    assert np.array_equal(np.asarray(Image.open(BytesIO(encode_png(colours)))), colours)
    assert (colours[..., 3] == 0).tolist() == (heat < 0.1).tolist()
    assert np.all(np.diff(colours[..., 3].ravel().astype(int)) >= 0), "stronger places cover more"
    assert colours[..., 3].max() < 200, "the image shows through"


def appraisal(shape: tuple[int, int], slice_number: int, number: int | None, doubt: Doubt) -> Appraisal:
    heat = np.zeros(shape, np.float32)
    heat[8:16, 20:31] = 1.0
    on, chance = (None, None) if number is None else (0.62, 0.031)
    explanation = Explanation(number=number, method="grad_cam", on_lesion=on, by_chance=chance)
    return Appraisal(
        Likeness(known_from="exact", compared=(THICK, FINE)), doubt, (Heat(explanation, slice_number, heat),)
    )


def test_report_and_page_hold_the_second_look(write_series, find, model: LoadedModel, tmp_path: Path) -> None:
    volume = write_series()
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[3:6, 8:16, 20:31] = 1
    inference = find(volume, labels)
    seen = appraisal((32, 40), inference.findings.lesions[0].slice_number, 1, doubtful(1))
    folder = write_report(
        tmp_path, inference, volume, model=model, site="north", created=NOW, randomness=Secret(), appraisal=seen
    )
    text = (folder / "report.json").read_text(encoding="utf-8")
    Draft202012Validator(json.loads(schema_text())).validate(json.loads(text))
    report = Report.model_validate_json(text)
    assert (report.doubt, report.likeness) == (seen.doubt, seen.likeness)
    assert report.explanations == (seen.heats[0].explanation,)
    page = " ".join((folder / "report.html").read_text(encoding="utf-8").split())
    for words in (
        "Lesion 1 needs a second read",
        "Slice spacing 5 mm: the model was trained on 0.56 to 2.75 mm",
        "Where the answer comes from",
        "Grad-CAM. 62% of it lies inside the outline, which fills 3.1% of what the model saw.",
        "0.310",
        "Monte-Carlo dropout",
    ):
        assert words in page
    assert page.index("needs a second read") < page.index("<h2>Findings</h2>")
    assert page.count("data:image/png;base64,") == 4, "whole, close-up, and the close-up once more with its map"


def test_the_map_is_drawn_over_the_close_up_of_its_own_lesion(write_series, find) -> None:
    volume = write_series()
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[3:6, 8:16, 20:31], labels[7:9, 20:26, 4:10] = 1, 1
    inference = find(volume, labels)
    seen = appraisal((32, 40), inference.findings.lesions[0].slice_number, 1, doubtful(1))
    first, second = key_slices(inference, volume, DisplayWindow(-1000, 200, "test"), seen.heats)
    assert second.heat is None
    assert first.heat is not None
    assert first.close_up is not None
    assert first.heat.png == first.close_up.png
    drawn = np.asarray(Image.open(BytesIO(base64.b64decode(first.heat.heat))))
    assert drawn.shape[:2] == np.asarray(Image.open(BytesIO(base64.b64decode(first.heat.png)))).shape
    assert (drawn[..., 3] > 0).sum() == 8 * 11


def test_a_wholly_judged_image_is_shown_on_the_slice_of_its_map(find) -> None:
    volume = scan(0)
    nothing = find(volume_of(volume.array, volume.affine), np.zeros(volume.array.shape, np.uint8))
    seen = appraisal(volume.array.shape[1:], 7, None, doubtful(None))
    (shown,) = key_slices(nothing, volume, DisplayWindow(-1000, 200, "test"), seen.heats)
    assert (shown.slice_number, shown.lesion) == (7, None)
    assert shown.heat is not None
    assert shown.heat.png == shown.whole.png
