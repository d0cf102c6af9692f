"""The one place where pydicom's remarks about odd files are kept from the user."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.errors import BytesLengthException, InvalidDicomError

#: What pydicom and its decoders raise on a file that breaks its own promises. A broken file is input, not a fault of
#: the program, and pydicom does not wrap what its parsing meets.
BROKEN_FILE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    InvalidDicomError,
    BytesLengthException,
    struct.error,
    zlib.error,
)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's remarks about values that bend the standard: the checks of this room decide, not they.

    The remarks quote the values, a patient's name among them, and must not reach the log of a federation's process.
    """
    logger = logging.getLogger("pydicom")
    level = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
