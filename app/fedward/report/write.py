"""One folder a series: ``report.json``, ``report.html`` and ``segmentation.dcm``, all of them or none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset

import fedward
from fedward.dicom.quiet import quiet_pydicom
from fedward.dicom.volume import Verdict, Volume
from fedward.files import whole_folder, write_bytes, write_text
from fedward.inference.appraisal import Appraisal
from fedward.inference.lesions import Inference
from fedward.inference.model import LoadedModel, ModelFacts
from fedward.randomness import Secret
from fedward.report import words
from fedward.report.document import Refusal, Report, Series, Study
from fedward.report.html import render
from fedward.report.pictures import key_slices
from fedward.report.segmentation import EncodedSegmentation, encode_segmentation
from fedward.report.source import instance_number, patient_of, read_headers, series_of, study_of
from fedward.report.window import choose_window

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def write_report(
    out: Path,
    inference: Inference,
    volume: Volume,
    *,
    model: LoadedModel,
    site: str,
    created: datetime,
    randomness: Secret,
    appraisal: Appraisal | None = None,
) -> Path:
    """Write the report of one series into its folder below ``out``; a report that stands there is replaced.

    Args:
        out: Where the reports of this run go.
        inference: What was found, perhaps nothing.
        volume: The series.
        model: The model that looked.
        site: The hospital's name in the federation.
        created: Now, with time zone.
        randomness: Draws the DICOM SEG's UIDs.
        appraisal: What a second look at the findings told; None where none was taken.

    Returns:
        The folder, named after the series.

    Raises:
        StoreError: no space, or the folder cannot be written; nothing half-written is left.
        SourceError: a source file has changed since it was read.
    """
    headers = read_headers(volume)
    window = choose_window(
        volume, model.input, (*model.task.classes, *(model.outline.classes if model.outline else ()))
    )
    segmentation, note = _segmentation(inference, volume, headers, model=model, randomness=randomness)
    findings, heats = inference.findings, appraisal.heats if appraisal else ()
    report = Report(
        software=_software(),
        notice=words.NOT_FOR_CLINICAL_USE,
        created=created,
        site=site,
        outcome="findings" if findings.has_findings else "no_findings",
        patient=patient_of(volume, headers),
        study=study_of(volume, headers),
        series=series_of(volume, headers),
        model=model.facts,
        lesion_model=model.detector.facts if model.detector else None,
        privacy=words.privacy(model.facts),
        association=model.own.association if model.own else None,
        display_window=window.sentence,
        findings=findings,
        doubt=appraisal.doubt if appraisal else None,
        likeness=appraisal.likeness if appraisal else None,
        explanations=tuple(heat.explanation for heat in heats),
        instance_numbers=tuple(instance_number(headers, lesion.slice_number) for lesion in findings.lesions),
        segmentation=segmentation.entry if segmentation else None,
        segmentation_note=note,
    )
    page = render(report, key_slices(inference, volume, window, heats))
    return _write(out / folder_name(volume.series_instance_uid, ()), report, page, segmentation)


def write_refusal(out: Path, verdict: Verdict, *, facts: ModelFacts | None, site: str, created: datetime) -> Path:
    """Write the report of a refused series into its folder below ``out``.

    Args:
        out: Where the reports of this run go.
        verdict: The refusal.
        facts: The model that would have looked, None where none was chosen.
        site: The hospital's name in the federation.
        created: Now, with time zone.

    Raises:
        StoreError: no space, or the folder cannot be written; nothing half-written is left.
        ValueError: the verdict is not a refusal.
    """
    if verdict.accepted:
        raise ValueError("an accepted series is not refused")
    report = Report(
        software=_software(),
        notice=words.NOT_FOR_CLINICAL_USE,
        created=created,
        site=site,
        outcome="refused",
        patient=None,
        study=Study(instance_uid=verdict.study_instance_uid),
        series=_refused_series(verdict),
        model=facts,
        privacy=words.privacy(facts),
        findings=None,
        segmentation=None,
        segmentation_note=words.NO_SEGMENTATION_OF_REFUSED,
        refusal=Refusal(code=verdict.code, sentence=verdict.sentence),
    )
    return _write(out / folder_name(verdict.series_instance_uid, verdict.files), report, render(report, ()), None)


def folder_name(series_instance_uid: str, files: Sequence[str]) -> str:
    """Name a series' folder: its UID, or a hash of its files where it has none that may be a name.

    A refused file may hold anything where its UID should be, a path out of the folder included.
    """
    if len(series_instance_uid) <= 64 and _UID.fullmatch(series_instance_uid):
        return series_instance_uid
    named = "\0".join((series_instance_uid, *files))
    return f"unnamed-{hashlib.sha256(named.encode(errors='replace')).hexdigest()[:16]}"


def _segmentation(
    inference: Inference, volume: Volume, headers: Sequence[Dataset], *, model: LoadedModel, randomness: Secret
) -> tuple[EncodedSegmentation | None, str]:
    if model.outline is None:
        return None, words.NO_SEGMENTATION_OF_IMAGE
    if not headers:
        return None, words.NO_SEGMENTATION_FOR_NIFTI
    try:
        with quiet_pydicom():
            encoded = encode_segmentation(inference, volume, headers, model=model, randomness=randomness)
    except (ValueError, TypeError, AttributeError) as error:
        # highdicom's answers to a source that reads well but breaks the standard: the findings still deserve a report.
        return None, words.no_segmentation(str(error))
    return encoded, ""


def _refused_series(verdict: Verdict) -> Series:
    return Series(
        instance_uid=verdict.series_instance_uid,
        source="NIfTI" if any(name.endswith((".nii", ".nii.gz")) for name in verdict.files) else "DICOM",
        modality=verdict.modality,
        manufacturer=verdict.manufacturer,
        model_name=verdict.model_name,
        shape=verdict.shape,
        spacing_mm=verdict.spacing_mm,
        files=verdict.file_count,
    )


def _software() -> str:
    return f"fedward {fedward.__version__}"


def _write(folder: Path, report: Report, page: str, segmentation: EncodedSegmentation | None) -> Path:
    with whole_folder(folder) as temporary:
        write_text(temporary / "report.json", report.model_dump_json(indent=2) + "\n", mode=0o600)
        write_text(temporary / "report.html", page, mode=0o600)
        if segmentation:
            write_bytes(temporary / segmentation.entry.file, segmentation.content)
    return folder
