"""The archives of the proof of concept's hospitals: phantoms, made where the federation file asks for one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fedward.files import write_bytes
from fedward.imaging.phantom.hospital import write_hospital
from fedward.imaging.phantom.lidc import read_real_nodules
from fedward.imaging.phantom.split import phantom_split_key
from fedward.randomness import Seeded
from fedward.settings.federation import FederationSettings
from fedward.settings.site import read_site_settings
from fedward_flare.workdir import Workdir


def make_phantoms(
    federation: FederationSettings,
    workdir: Workdir,
    *,
    seed: int,
    shapes: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> None:
    """Write the DICOM archive of every hospital that has a phantom and no archive yet.

    A phantom's split of patients comes from the seed too; a real hospital's split key is its own secret.

    Args:
        federation: Names the hospitals and what their phantoms are like.
        workdir: Where their folders are.
        seed: Of everything that is drawn.
        shapes: A folder of LIDC-IDRI annotations: the phantoms then have the real nodules of their scanners' makers.
        progress: Called with the hospital's name, its patients done, and their number.

    Raises:
        SourceError: the folder of shapes is not what it should be.
        SettingsError: a hospital has more patients than its maker's real shapes.
    """
    randomness = Seeded(seed)
    nodules = read_real_nodules(shapes) if shapes else ()
    for hospital in federation.hospital:
        folder = workdir.hospital(hospital.name)
        if hospital.phantom is None or (folder / "dicom").exists():
            continue
        name = hospital.name
        split = read_site_settings(hospital.site_file).split
        key = phantom_split_key(hospital.phantom, split, name=name, randomness=randomness, nodules=nodules)
        write_bytes(folder / "state" / "split.key", key)
        write_hospital(
            hospital.phantom,
            folder / "dicom",
            randomness=randomness,
            name=name,
            nodules=nodules,
            workers=os.cpu_count() or 1,
            progress=lambda done, total, name=name: progress(name, done, total),  # type: ignore[misc]
        )
