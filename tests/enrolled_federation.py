"""Enrolment with NVFLARE's own commands, as provision/steps.md describes it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from fedward.identity.certificates import read_certificate


def nvflare(work: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of NVFLARE with a home of its own; nobody answers its questions."""
    (work / "home").mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(work / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "nvflare"), *words],
        env=environment,
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done


def root_fingerprint(work: Path) -> str:
    digest = read_certificate(work / "ca" / "rootCA.pem").fingerprint(hashes.SHA256()).hex()
    return ":".join(digest[place : place + 2] for place in range(0, 64, 2)).upper()


def enrol(plan: Path, work: Path, names: Iterable[str], *, kits: str = "kit") -> None:
    """Take the way of ``plan``/STEPS.md for each party: a key and a request, an approval, a kit."""
    profile = str(plan / "authority" / "profile.yml")
    nvflare(work, "cert", "init", "--profile", profile, "-o", "ca")
    for folder in ("requests", "signed"):
        (work / folder).mkdir(exist_ok=True)

    def one(name: str) -> str:
        nvflare(work, "cert", "request", "-p", str(plan / "requests" / f"{name}.yml"), "--out", f"requests/{name}")
        request, signed = f"requests/{name}/{name}.request.zip", f"signed/{name}.signed.zip"
        approve = ("cert", "approve", request, "-c", "ca", "--profile", profile, "--valid-days", "360", "--out", signed)
        nvflare(work, *approve)
        return signed

    with ThreadPoolExecutor(2) as pool:
        signed = list(pool.map(one, names))
    for name, path in zip(names, signed, strict=True):
        words = ("package", path, "--request-dir", f"requests/{name}", "-w", kits)
        nvflare(work, *words, "--fingerprint", root_fingerprint(work))
