"""The maker's name as people say it, out of the many ways in which scanners write it."""

from __future__ import annotations

import re

#: What (0008,0070) contains, and the maker it means; the first match counts. Hitachi's and Toshiba's imaging
#: businesses changed hands, but an old scanner's files keep the old name, and so do we.
_MAKERS: tuple[tuple[str, str], ...] = (
    (r"^GE\b|^GEMS\b|GENERAL ELECTRIC", "GE"),
    (r"SIEMENS", "Siemens"),
    (r"PHILIPS|^ADAC\b|^MARCONI|^PICKER", "Philips"),
    (r"TOSHIBA", "Toshiba"),
    (r"CANON", "Canon"),
    (r"HITACHI", "Hitachi"),
    (r"FUJI", "Fujifilm"),
    (r"\bUIH\b|UNITED[ _]IMAGING", "United Imaging"),
    (r"NEUSOFT", "Neusoft"),
    (r"HYPERFINE", "Hyperfine"),
    (r"SHIMADZU", "Shimadzu"),
    (r"SAMSUNG|NEUROLOGICA", "Samsung"),
    (r"ESAOTE", "Esaote"),
    (r"VARIAN", "Varian"),
    (r"MEDISO", "Mediso"),
    (r"BRUKER", "Bruker"),
)


def maker(manufacturer: str) -> str:
    """Give the maker's usual name for ``manufacturer`` (0008,0070); an unknown one keeps its own words.

    Example:
        >>> maker("GE MEDICAL SYSTEMS / MIM Software")
        'GE'
        >>> maker("Acme  Scanners / Some Workstation")
        'Acme Scanners'
    """
    words = " ".join(manufacturer.split())
    for pattern, name in _MAKERS:
        if re.search(pattern, words, flags=re.IGNORECASE):
            return name
    return words.split(" / ")[0].strip()
