"""One door to a hospital's data, whatever kind of source the site file names."""

from __future__ import annotations

from fedward.dicom.dicom_source import open_dicom
from fedward.dicom.nifti_source import open_nifti
from fedward.dicom.studies import Source, StudyCase
from fedward.settings.site import DicomSource, NiftiSource

__all__ = ["Source", "StudyCase", "open_source"]


def open_source(source: DicomSource | NiftiSource) -> Source:
    """Look through a source; headers alone are read.

    Raises:
        SourceError: ``missing_source``, ``empty_source`` or ``unreadable_source``.
    """
    return open_dicom(source) if isinstance(source, DicomSource) else open_nifti(source)
