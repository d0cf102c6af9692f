"""Scans under a model that exists in numbers alone."""

from __future__ import annotations

import numpy as np

from fedward.dicom.facts import GroupFacts
from fedward.evaluation.froc import Candidate, ScanCandidates
from fedward.evaluation.measure import ScanFacts

MAKERS = ("GE", "Siemens")


def detected_scans(generator: np.random.Generator, *, patients: int, lesions: int = 1) -> list[ScanFacts]:
    """One scan a patient with so many lesions, most of them marked, and up to two false marks."""
    return [_detected(generator, f"patient {number}", lesions) for number in range(patients)]


def _detected(generator: np.random.Generator, patient: str, lesions: int) -> ScanFacts:
    is_marked = generator.random(lesions) < 0.8
    marks = [Candidate(float(generator.uniform(0.05, 1)), (k,)) for k in range(lesions) if is_marked[k]]
    false = [Candidate(float(generator.uniform(0.05, 0.8))) for _ in range(generator.integers(3))]
    return ScanFacts(
        patient,
        float(generator.uniform(0.1, 5)),
        GroupFacts(sex=str(generator.choice(["female", "male"])), maker=str(generator.choice(MAKERS))),
        dice=tuple(generator.uniform(0, 1, lesions).tolist()),
        iou=tuple(generator.uniform(0, 1, 1).tolist()),
        hd95_mm=tuple(generator.uniform(0, 39, 1).tolist()),
        lesions=lesions,
        lesions_found=int(is_marked.sum()),
        false_positives=len(false),
        candidates=ScanCandidates((*marks, *false), lesions),
        true_voxels=generator.integers(0, 50, 10).astype(np.float64),
        false_voxels=generator.integers(0, 50, 10).astype(np.float64),
    )


def scored_scans(
    generator: np.random.Generator, *, patients: int, sharpness: float = 1.0, share: float = 0.5
) -> list[ScanFacts]:
    """One score a patient: its class follows the score's logit, said ``sharpness`` times too loud."""
    logits = generator.normal(0, 1.5, patients) + np.log(share / (1 - share))
    positive = generator.random(patients) < 1 / (1 + np.exp(-logits))
    said = 1 / (1 + np.exp(-sharpness * logits))
    return [
        ScanFacts(f"patient {k}", 0.5, scores=(float(said[k]),), positive=(bool(positive[k]),)) for k in range(patients)
    ]
