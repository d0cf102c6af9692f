from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation
from pydicom.dataset import Dataset

from fedward.dicom.volume import Volume
from fedward.inference.lesions import Inference
from fedward.inference.model import LoadedModel
from fedward.randomness import Secret
from fedward.report.codes import COLOURS
from fedward.report.segmentation import encode_segmentation
from fedward.report.source import read_headers
from fedward.settings.job import Segmentation as SegmentationTask
from support import shared_data

OBLIQUE = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def three_lesions(shape: tuple[int, int, int]) -> np.ndarray:
    """Three lesions without any symmetry, one at a corner of the volume, so that no flip goes unseen."""
    labels = np.zeros(shape, np.uint8)
    labels[0, 0:3, 0:9] = 1
    labels[2:5, 10:17, 22:30] = labels[3, 17, 22:25] = 1
    labels[shape[0] - 2 :, 25:27, 3:12] = 1
    return labels


def encode(inference: Inference, volume: Volume, model: LoadedModel) -> Segmentation:
    encoded = encode_segmentation(inference, volume, read_headers(volume), model=model, randomness=Secret())
    result = highdicom.seg.segread(BytesIO(encoded.content))
    assert result.SOPInstanceUID == encoded.entry.sop_instance_uid
    assert result.SeriesInstanceUID == encoded.entry.series_instance_uid
    assert result.number_of_segments == encoded.entry.segments
    return result


def back_on_source(document: Segmentation, volume: Volume) -> np.ndarray:
    """Read the numbers back slice by slice through the references to the source's images."""
    return document.get_pixels_by_source_instance(
        source_sop_instance_uids=list(volume.sop_instance_uids),
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )


def frames_by_hand(document: Segmentation, volume: Volume) -> np.ndarray:
    """A second route that trusts no library's geometry: bits, frame by frame, to the image each one names."""
    frames = document.NumberOfFrames
    bits = np.unpackbits(np.frombuffer(document.PixelData, np.uint8), bitorder="little")
    pixels = bits[: frames * document.Rows * document.Columns].reshape(frames, document.Rows, document.Columns)
    result = np.zeros(volume.array.shape, np.uint8)
    for item, frame in zip(document.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        source = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        index = volume.sop_instance_uids.index(source)
        position = [float(v) for v in item.PlanePositionSequence[0].ImagePositionPatient]
        expected = volume.affine[:3, 0] * index + volume.affine[:3, 3]
        assert position == pytest.approx(expected.tolist(), abs=1e-4)
        group = item if "SegmentIdentificationSequence" in item else document.SharedFunctionalGroupsSequence[0]
        result[index][frame > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    return result


@pytest.mark.parametrize("descending", [False, True], ids=["along the normal", "against the normal"])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), SAGITTAL, CORONAL, OBLIQUE])
def test_it_reads_back_onto_the_source_voxels_exactly(
    write_series, find, model: LoadedModel, orientation: tuple[float, ...], descending: bool
) -> None:
    volume = write_series(orientation=orientation, descending=descending)
    inference = find(volume, three_lesions(volume.array.shape))
    assert len(inference.findings.lesions) == 3
    document = encode(inference, volume, model)
    assert np.array_equal(back_on_source(document, volume), inference.lesion_map)
    assert np.array_equal(frames_by_hand(document, volume), inference.lesion_map)


def test_it_lies_on_the_images_in_the_patient(write_series, find, model: LoadedModel) -> None:
    volume = write_series(orientation=OBLIQUE, descending=True)
    inference = find(volume, three_lesions(volume.array.shape))
    document = encode(inference, volume, model)
    image = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in volume.files])
    on_image = document.get_volume(combine_segments=True).match_geometry(image)
    ours = np.zeros(image.spatial_shape, np.uint8)
    for index in range(volume.array.shape[0]):
        place = np.linalg.solve(image.affine, volume.affine @ [index, 0, 0, 1])
        ours[round(place[0])] = inference.lesion_map[index]
    assert np.array_equal(on_image.array, ours)


def test_a_real_series_reads_back_exactly(find, model: LoadedModel) -> None:
    headers = {path: pydicom.dcmread(path) for path in shared_data("lidc_idri_ct_small").rglob("*.dcm")}
    files = sorted(headers, key=lambda path: headers[path].ImagePositionPatient[2])
    positions = [np.array(headers[path].ImagePositionPatient, float) for path in files]
    first = headers[files[0]]
    affine = np.diag([0.0, first.PixelSpacing[0], 0.0, 1.0])
    affine[0, 2], affine[:3, 0], affine[:3, 3] = first.PixelSpacing[1], positions[1] - positions[0], positions[0]
    volume = Volume(
        array=np.zeros((len(files), first.Rows, first.Columns), np.float32),
        affine=affine,
        modality="CT",
        patient_key="p",
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=first.SeriesInstanceUID,
        sop_instance_uids=tuple(str(headers[path].SOPInstanceUID) for path in files),
        files=tuple(files),
    )
    labels = three_lesions(volume.array.shape)
    document = encode(find(volume, labels), volume, model)
    assert np.array_equal(back_on_source(document, volume) > 0, labels > 0)


def wrong_spacing(header: Dataset) -> None:
    header.SpacingBetweenSlices = 1.0


def test_a_wrong_spacing_between_slices_is_repaired(write_series, find, model: LoadedModel) -> None:
    volume = write_series(change=wrong_spacing)
    inference = find(volume, three_lesions(volume.array.shape))
    document = encode(inference, volume, model)
    measures = document.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5)
    assert document.get_volume(combine_segments=True).spacing[0] == pytest.approx(2.5)


def de_identified(header: Dataset) -> None:
    for keyword in ("PatientName", "PatientBirthDate", "StudyID", "StudyTime", "AccessionNumber", "SliceThickness"):
        delattr(header, keyword)
    header.PatientSex = "U"


def test_a_source_that_lacks_what_may_be_empty_is_written(write_series, find, model: LoadedModel) -> None:
    volume = write_series(change=de_identified)
    inference = find(volume, three_lesions(volume.array.shape))
    assert np.array_equal(back_on_source(encode(inference, volume, model), volume), inference.lesion_map)


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 100", "Müller^Jürgen"),
        ("", "Doe^Jane"),
    ],
)
def test_a_name_in_any_script_leaves_as_utf8(write_series, find, model: LoadedModel, character_set, name: str) -> None:
    def write_name(header: Dataset) -> None:
        header.SpecificCharacterSet = character_set
        header.PatientName = name

    volume = write_series(change=write_name)
    document = encode(find(volume, three_lesions(volume.array.shape)), volume, model)
    assert document.SpecificCharacterSet == "ISO_IR 192"
    assert str(document.PatientName) == name


def test_a_name_of_one_part_reaches_no_log(write_series, find, model: LoadedModel, caplog, recwarn) -> None:
    def one_part(header: Dataset) -> None:
        header.PatientName = "Secretname"

    volume = write_series(change=one_part)
    with caplog.at_level(logging.DEBUG):
        document = encode(find(volume, three_lesions(volume.array.shape)), volume, model)
    assert str(document.PatientName) == "Secretname"
    assert "Secretname" not in caplog.text
    assert [warning for warning in recwarn if "Secretname" in str(warning.message)] == []


def test_cosines_that_differ_in_the_last_digit_are_one_orientation(write_series, find, model: LoadedModel) -> None:
    def jitter(header: Dataset) -> None:
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 1e-7 * (int(header.InstanceNumber) % 2)]

    volume = write_series(change=jitter)
    inference = find(volume, three_lesions(volume.array.shape))
    assert np.array_equal(back_on_source(encode(inference, volume, model), volume), inference.lesion_map)


def test_nothing_found_is_one_empty_segment_on_every_slice(write_series, find, model: LoadedModel) -> None:
    volume = write_series()
    document = encode(find(volume, np.zeros(volume.array.shape, np.uint8)), volume, model)
    assert document.NumberOfFrames == volume.array.shape[0]
    assert not back_on_source(document, volume).any()
    assert document.get_segment_description(1).segment_label == "nodule: none found"


def test_a_segment_says_what_it_is_and_who_drew_it(write_series, find, model: LoadedModel) -> None:
    volume = write_series()
    inference = find(volume, three_lesions(volume.array.shape))
    document = encode(inference, volume, model)
    assert document.SegmentationType == "BINARY"
    assert document.StudyInstanceUID == volume.study_instance_uid
    assert document.FrameOfReferenceUID == volume.frame_of_reference_uid
    for lesion in inference.findings.lesions:
        segment = document.get_segment_description(lesion.number)
        assert segment.algorithm_type.value == "AUTOMATIC"
        assert segment.tracking_uid == lesion.tracking_uid
        assert segment.segmented_property_category.value == "49755003"
        assert segment.segmented_property_type.value == "27925004"
        assert [region.value for region in segment.anatomic_regions] == ["39607008"]
        algorithm = segment.algorithm_identification[0]
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("lung_nodule_segmentation", "7")
        lab = highdicom.color.CIELabColor.from_dicom_value(tuple(segment.RecommendedDisplayCIELabValue))
        assert lab.to_rgb() == pytest.approx(COLOURS[lesion.number - 1], abs=2)


def test_a_class_that_is_no_lung_nodule_names_no_lung(write_series, find, model: LoadedModel) -> None:
    task = SegmentationTask(kind="segmentation", classes=("tumour",), measure="lesion_dice")
    volume = write_series()
    document = encode(find(volume, three_lesions(volume.array.shape), task), volume, model)
    segment = document.get_segment_description(1)
    assert segment.segmented_property_type.value == "52988006"
    assert segment.anatomic_regions == []


def test_a_series_without_a_frame_of_reference_cannot_be_written(write_series, find, model: LoadedModel) -> None:
    def forget(header: Dataset) -> None:
        del header.FrameOfReferenceUID

    volume = write_series(change=forget)
    with pytest.raises(ValueError, match="Frame Of Reference"):
        encode(find(volume, three_lesions(volume.array.shape)), volume, model)


def test_it_is_a_file_that_any_reader_opens(write_series, find, model: LoadedModel, tmp_path: Path) -> None:
    volume = write_series()
    inference = find(volume, three_lesions(volume.array.shape))
    encoded = encode_segmentation(inference, volume, read_headers(volume), model=model, randomness=Secret())
    path = tmp_path / "segmentation.dcm"
    path.write_bytes(encoded.content)
    header = pydicom.dcmread(path)
    assert header.file_meta.MediaStorageSOPClassUID.name == "Segmentation Storage"
    assert header.SeriesDescription == "AI findings, not for clinical use"
