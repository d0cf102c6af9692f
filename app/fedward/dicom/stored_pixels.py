"""Pixels in a file: is all of them there, and what do they decode to?"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.filereader import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.tag import Tag
from pydicom.uid import UID

from fedward.dicom.bounded import BoundedReader
from fedward.dicom.quiet import BROKEN_FILE_ERRORS, quiet_pydicom
from fedward.dicom.values import integer
from fedward.errors import SeriesRefused

_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM, _DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_PIXEL_DATA, _FLOAT_PIXELS = (0x7FE0, 0x0010), {(0x7FE0, 0x0008), (0x7FE0, 0x0009)}
_PIXEL_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
]  # fmt: skip
#: Overlay Bit Position of the sixteen overlay groups (PS3.3 C.9.2).
_OVERLAY_TAGS = [Tag(0x6000 + 2 * group, 0x0102) for group in range(16)]


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The pixel element as it lies in the file: whole numbers or not, and why it is not whole where it is not."""

    is_integer: bool = True
    fault: str = ""


def pixel_element(file: BinaryIO, *, size: int, expected: int, big_endian: bool, implicit: bool) -> PixelElement:
    """Look at the element under the file's position without reading its value.

    Args:
        file: Open, positioned where the header ends.
        size: The file's length, bytes.
        expected: Bytes of the native pixels, 0 where unknown.
        big_endian: The file's byte order.
        implicit: Elements carry no value representation.
    """
    order = ">" if big_endian else "<"
    head = file.read(8 if implicit else 12)
    if len(head) < (8 if implicit else 12):
        return PixelElement(fault="the file ends before its pixel data")
    tag = struct.unpack(order + "HH", head[:4])
    if tag in _FLOAT_PIXELS:
        return PixelElement(is_integer=False)
    if tag != _PIXEL_DATA:
        return PixelElement(fault="the file holds no pixel data")
    (length,) = struct.unpack(order + "I", head[-4:])
    if length == _UNDEFINED_LENGTH:
        return PixelElement(fault=_fragment_fault(file, size))
    present = size - file.tell()
    if present < min(length, expected or length) or (expected and length < expected):
        return PixelElement(fault=f"the file holds {min(present, length)} of {expected or length} bytes of pixel data")
    return PixelElement()


def _fragment_fault(file: BinaryIO, size: int) -> str:
    """Walk over the fragments of encapsulated pixels (PS3.5 A.4) and say where they break off."""
    while True:
        head = file.read(8)
        if len(head) < 8:
            return "the file ends inside its compressed pixel data"
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == _DELIMITER:
            return ""
        if (group, element) != _ITEM:
            return "its compressed pixel data is damaged"
        if file.tell() + length > size:
            return "the file ends inside its compressed pixel data"
        file.seek(length, 1)


def can_decode(transfer_syntax_uid: str) -> bool:
    """Tell whether a decoder for the transfer syntax is installed."""
    try:
        with quiet_pydicom():
            return bool(get_decoder(UID(transfer_syntax_uid)).is_available)
    except NotImplementedError:
        return False


def stored_values(path: Path, transfer_syntax_uid: str) -> NDArray[np.generic]:
    """Decode the stored values of a single-frame file, shape ``(row, column)``, any integer dtype.

    Raises:
        SeriesRefused: ``unreadable`` when decoding fails, ``unsupported_pixel_format`` when values lie outside
            Bits Stored. The detail does not name the file.
    """
    try:
        with BoundedReader(path) as file, quiet_pydicom():
            dataset = dcmread(file, force=True, specific_tags=[*(Tag(name) for name in _PIXEL_TAGS), *_OVERLAY_TAGS])
            dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
            values = pixel_array(dataset, raw=True, correct_unused_bits=False)
            return _within_bits_stored(values, dataset)
    except BROKEN_FILE_ERRORS as error:
        raise SeriesRefused("unreadable", f"its pixels do not decode ({type(error).__name__})") from error


def _within_bits_stored(values: NDArray[np.generic], dataset: FileDataset) -> NDArray[np.generic]:
    """Give the values that Bits Stored allows (PS3.5 section 8.1.1).

    Unused high bits hold copies of the sign, zeros, or, in old files, an overlay; anything else is not what the
    header says.
    """
    allocated, stored = integer(dataset, "BitsAllocated", 0), integer(dataset, "BitsStored", 0)
    if stored >= allocated or not stored:
        return values
    spare = values.dtype.itemsize * 8 - stored
    kept: NDArray[np.generic] = np.right_shift(np.left_shift(values, spare), spare)
    if np.array_equal(kept, values) or _overlay_in_pixels(dataset):
        return kept
    if values.dtype.kind == "i" and not np.any(np.right_shift(values, stored)):
        return kept
    raise SeriesRefused("unsupported_pixel_format", f"its values do not fit into its {stored} Bits Stored")


def _overlay_in_pixels(dataset: FileDataset) -> bool:
    return any(tag in dataset and int(dataset[tag].value or 0) > 0 for tag in _OVERLAY_TAGS)
