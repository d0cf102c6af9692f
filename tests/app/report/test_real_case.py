"""`fedward infer` on a real CT: a toy model that knows balls in noise, and a report that says how far to trust it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from fedward.models.weights import layout_of, named, read_weights
from fedward.release.package import model_bytes, write_release
from fedward.release.passport import TrainedOn, TrainedRange
from fedward.report.document import Report
from fedward.report.schema import schema_text
from fedward.settings.networks import UNet3D
from fedward_flare.cli import app
from release_cases import release_parts
from second_look_cases import BALL, CT, PATCH, trained
from support import shared_data

COARSE = CT.model_copy(update={"spacing_mm": (4.0, 4.0, 4.0)})
KNOWN = TrainedOn(
    noised=False,
    ranges=(
        TrainedRange(trait="slice_spacing", unit="mm", low=0.56, high=1.75),
        TrainedRange(trait="bright_intensity", unit="HU", low=0.0, high=300.0),
    ),
)


def release(folder: Path) -> Path:
    module = trained()
    layout, weights = layout_of(module), read_weights(module)
    parts = release_parts(
        model=model_bytes(named(layout, weights)),
        task=BALL.model_copy(update={"minimum_lesion_mm": 8.0, "minimum_probability": 0.6}),
        input=COARSE,
        network=UNet3D(name="unet3d", channels=(8, 16, 32), dropout=0.2),
        patch_size=PATCH,
        layout_digest=layout.digest,
        weights_sha256=hashlib.sha256(weights.tobytes()).hexdigest(),
        trained_on=KNOWN,
    )
    write_release(folder, parts)
    return folder


def test_a_report_of_a_real_series_says_how_far_to_trust_it(tmp_path: Path) -> None:
    series = shared_data("lidc_idri_ct_small") / "LIDC-IDRI-0001" / "dicom"
    words = ["infer", str(series), "--model", str(release(tmp_path / "release")), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "out").iterdir()
    text = (folder / "report.json").read_text(encoding="utf-8")
    Draft202012Validator(json.loads(schema_text())).validate(json.loads(text))
    report = Report.model_validate_json(text)
    assert report.outcome == "findings"
    assert report.doubt is not None
    assert (report.doubt.method, report.doubt.answers) == ("dropout", 20)
    looked_at = range(1, 1 + min(12, len(report.findings.lesions)))  # type: ignore[union-attr]
    assert [one.number for one in report.doubt.findings] == [one.number for one in report.explanations]
    assert [one.number for one in report.doubt.findings] == list(looked_at)
    assert all(one.outline_deviation for one in report.doubt.findings)
    assert report.likeness is not None
    assert [(one.trait, one.value) for one in report.likeness.outside] == [("slice_spacing", 2.5)]
    page = " ".join((folder / "report.html").read_text(encoding="utf-8").split())
    assert "Slice spacing 2.5 mm: the model was trained on 0.56 to 1.75 mm." in page
    assert page.count("Grad-CAM.") == len(looked_at)
