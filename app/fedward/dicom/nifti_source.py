"""A folder of NIfTI images with one of labels beside it, so that public sets run too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedward.dicom.image_classes import read_image_classes, rows_without_image
from fedward.dicom.labels import read_mask
from fedward.dicom.nifti import read_nifti, read_shape
from fedward.dicom.reader import ACCEPTED
from fedward.dicom.studies import Source, StudyCase, existing_folder
from fedward.dicom.values import derived_uid
from fedward.dicom.volume import Label, Verdict, Volume
from fedward.errors import LabelRefused, SeriesRefused, SourceError
from fedward.settings.site import NiftiSource


def open_nifti(source: NiftiSource) -> Source:
    """Look through a NIfTI folder; headers alone are read.

    Raises:
        SourceError: ``missing_source`` or ``empty_source``; ``unreadable_source``: its table of classes.
    """
    folder, suffix = existing_folder(source.images), source.image_suffix
    if source.labels is not None:
        existing_folder(source.labels)
    images = sorted(path for path in folder.iterdir() if path.name.endswith(suffix) and path.is_file())
    if not images:
        raise SourceError("empty_source", f"no file in {folder} ends in {suffix}")
    classes = read_image_classes(source.image_classes)
    judged = [(path, _judge(path, source)) for path in images]
    return Source(
        cases=tuple(_case(path, verdict, source, classes) for path, verdict in judged if verdict.accepted),
        refused=tuple(verdict for _, verdict in judged if not verdict.accepted),
        unmatched=rows_without_image(source.image_classes, classes, [_stem(path, source) for path in images]),
    )


def patient_of_file(image: Path, source: NiftiSource) -> str:
    """Give the patient key that an image's file name stands for."""
    return patient_of_stem(_stem(image, source), source)


def patient_of_stem(stem: str, source: NiftiSource) -> str:
    """Give the patient key that an image's file name without the suffix stands for."""
    return stem.split(source.patient_separator)[0] if source.patient_separator else stem


def _stem(image: Path, source: NiftiSource) -> str:
    return image.name.removesuffix(source.image_suffix)


def _judge(path: Path, source: NiftiSource) -> Verdict:
    try:
        header = read_shape(path)
    except SeriesRefused as error:
        return _verdict(path, source, error.code, error.detail)
    return _verdict(path, source, ACCEPTED, "", shape=header.shape, spacing_mm=header.spacing_mm)


def _verdict(
    path: Path,
    source: NiftiSource,
    code: str,
    sentence: str,
    *,
    shape: tuple[int, int, int] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
) -> Verdict:
    return Verdict(
        accepted=code == ACCEPTED,
        code=code,
        sentence=sentence,
        series_instance_uid=derived_uid("series", path.name),
        study_instance_uid=derived_uid("study", path.name),
        modality=source.modality,
        shape=shape,
        spacing_mm=spacing_mm,
        file_count=1,
        files=(path.name,),
    )


def _case(image: Path, verdict: Verdict, source: NiftiSource, classes: Mapping[str, str]) -> StudyCase:
    stem = _stem(image, source)
    beside = source.labels / f"{stem}{source.label_suffix}" if source.labels else None
    label = beside if beside is not None and beside.is_file() else None
    patient = patient_of_file(image, source)

    def read() -> Volume:
        array, affine = read_nifti(image)
        return Volume(
            array=array.astype(np.float32),
            affine=affine,
            modality=source.modality,
            patient_key=patient,
            study_instance_uid=verdict.study_instance_uid,
            series_instance_uid=verdict.series_instance_uid,
            files=(image,),
        )

    def read_truth(classes: tuple[str, ...], volume: Volume) -> Label | None:
        return _label(label, volume, source, classes) if label else None

    return StudyCase(
        patient_key=patient,
        verdict=verdict,
        has_label=label is not None,
        files=(image, label) if label else (image,),
        read=read,
        read_label=read_truth,
        image_class=classes.get(stem, ""),
    )


def _label(path: Path, volume: Volume, source: NiftiSource, classes: tuple[str, ...]) -> Label | None:
    """Give the asked classes, None where the site file knows none of them; a class that it lacks is no background."""
    known = [name for name in classes if name in source.classes]
    if not known:
        return None
    if len(known) < len(classes):
        lacking = ", ".join(name for name in classes if name not in known)
        raise LabelRefused("unknown_class", f"the site file gives no label value for class {lacking}")
    values = {source.classes[name]: number for number, name in enumerate(classes, start=1)}
    return read_mask(path, volume, values=values, classes=classes)
