from __future__ import annotations

import pytest

from fedward.dicom.makers import maker


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("GE MEDICAL SYSTEMS", "GE"),
        ("GE MEDICAL SYSTEMS / MIM Software", "GE"),
        ("GE HEALTHCARE", "GE"),
        ("SIEMENS", "Siemens"),
        ("Siemens Healthineers", "Siemens"),
        ("SIEMENS / MIM Software", "Siemens"),
        ("Philips Medical Systems", "Philips"),
        ("Philips Healthcare", "Philips"),
        ("TOSHIBA_MEC", "Toshiba"),
        ("Canon Medical Systems", "Canon"),
        ("Hitachi Medical Corporation", "Hitachi"),
        ("UIH", "United Imaging"),
        ("Hyperfine Research", "Hyperfine"),
        ("CMS, Inc.", "CMS, Inc."),
        ("  Acme   Scanners / Some Workstation ", "Acme Scanners"),
        ("GENESIS", "GENESIS"),
        ("", ""),
    ],
)
def test_a_maker_has_one_name(written: str, name: str) -> None:
    assert maker(written) == name
