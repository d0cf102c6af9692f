"""What is installed here: do the parts fit, under which licences are they, and is a known hole among them?

Known holes are asked of the service behind PyPI by pip-audit. A machine without a way there is told so and passes,
unless ``FEDWARD_AUDIT=required`` is set. Everything that the service does say fails the check.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions

#: Copyleft that would reach the code beside it; MPL stays within its own files.
_COPYLEFT = re.compile(r"\b[AL]?GPL|GNU (Affero|Lesser|Library|General)|SSPL|Commons Clause", re.IGNORECASE)

#: Distributions that name no licence in what they ship, and where theirs was read.
_READ_BY_HAND: dict[str, str] = {}

#: Known holes that do not concern us: the advisory, and why.
_ACCEPTED: dict[str, str] = {}


def main() -> int:
    """Give the exit code."""
    faults = [*misfits(), *licences(), *holes()]
    for fault in faults:
        print(f"dependencies: {fault}", file=sys.stderr)
    return 1 if faults else 0


def misfits() -> list[str]:
    """Give what pip finds missing or of the wrong version."""
    found = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    return found.stdout.splitlines() if found.returncode else []


def licences() -> list[str]:
    """Give the installed distributions under copyleft, and those whose licence nobody has read."""
    faults = []
    for distribution in distributions():
        name = distribution.metadata["Name"]
        stated = stated_licence(distribution)
        if not stated and name.lower() not in _READ_BY_HAND:
            faults.append(f"{name} states no licence")
        elif is_copyleft(stated):
            faults.append(f"{name} is under {stated}")
    return faults


def stated_licence(distribution: Distribution) -> str:
    """Give the licence that a distribution's own metadata state: the expression, else the classifiers and the words."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return expression
    classifiers = [text.split("::")[-1].strip() for text in about.get_all("Classifier") or [] if text[:7] == "License"]
    return "; ".join([*classifiers, *(about.get("License") or "")[:100].splitlines()[:1]])


def is_copyleft(stated: str) -> bool:
    """Whether no alternative of a licence is free of copyleft."""
    return all(_COPYLEFT.search(alternative) for alternative in re.split(r"\bOR\b", stated))


def holes() -> list[str]:
    """Give the known holes, or say that nobody could be asked."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--format", "json", "--progress-spinner", "off"]
    found = subprocess.run([*command, "--timeout", "5"], capture_output=True, text=True, check=False)
    try:
        listed = json.loads(found.stdout)["dependencies"]
    except (ValueError, KeyError):
        listed = []
    faults, asked = read_answer(listed)
    # One that nobody knows is ours or of another index; when nobody knows most, nobody was asked.
    if asked < len(listed) / 2 or not listed:
        words = f"no vulnerability service could be asked ({asked} of {len(listed)} distributions known to it)"
        if os.environ.get("FEDWARD_AUDIT") == "required":
            return [*faults, words]
        print(f"dependencies: NOT AUDITED: {words}")
    else:
        print(f"dependencies: {asked} of {len(listed)} distributions audited")
    return faults


def read_answer(listed: list[dict[str, object]]) -> tuple[list[str], int]:
    """Give the holes in pip-audit's answer that are not accepted, and of how many distributions it knew."""
    faults, asked = [], 0
    for entry in listed:
        asked += "skip_reason" not in entry
        for hole in entry.get("vulns", []):  # type: ignore[attr-defined]
            if hole["id"] not in _ACCEPTED:
                faults.append(f"{entry['name']} {entry['version']} has {hole['id']}, fixed in {hole['fix_versions']}")
    return faults, asked


if __name__ == "__main__":
    sys.exit(main())
