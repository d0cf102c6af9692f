"""The counts that an evaluation takes from each site: fixed bins, and a share of every patient that is bounded.

A sheet is a list of blocks, a block a list of bins. A patient adds at most 1 to the bins of a block together, whatever
many scans, lesions or voxels there are. So one patient moves a sheet of n blocks by a vector of norm sqrt(n) at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedward.settings.job import EvaluatedTask
from fedward.settings.tasks import AnyTask, Classification, Segmentation

Counts = NDArray[np.float64]

#: The names of blocks that others read.
PATIENTS, SECONDS = "patients", "seconds"
DICE, IOU, HD95 = "dice", "iou", "hd95_mm"
SENSITIVITY, FALSE_POSITIVES = "lesion_sensitivity", "false_positives"
HITS, FALSE_MARKS = "found_at", "false_marks_at"
TRUE_VOXELS, FALSE_VOXELS = "true_voxels", "false_voxels"
POSITIVES, NEGATIVES, DIAMETER = "positives", "negatives", "diameter_error_mm"

#: Bins of a score whose curve is drawn, and of a number of which the mean is asked.
SCORE_BINS, BINS = 20, 10

#: A scan's false marks beyond this are not counted, and an outline farther away than this (mm) is not farther.
MOST_FALSE_MARKS, FARTHEST_MM = 8.0, 40.0


@dataclass(frozen=True)
class Block:
    """Bins of one width from ``low`` to ``high``; with ``is_log`` of one width of the logarithm.

    Attributes:
        name: What is counted.
        bins: How many.
        low: The lower edge of the first bin; what lies below is counted there.
        high: The upper edge of the last bin; what lies above is counted there.
        is_log: Whether a bin's ends have one ratio instead of one difference.
    """

    name: str
    bins: int
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False

    @property
    def edges(self) -> Counts:
        """Shape ``(bins + 1,)``."""
        if self.is_log:
            return np.geomspace(self.low, self.high, self.bins + 1)
        return np.linspace(self.low, self.high, self.bins + 1)

    @property
    def centres(self) -> Counts:
        """What a value in each bin is taken for."""
        edges = self.edges
        return np.sqrt(edges[:-1] * edges[1:]) if self.is_log else (edges[:-1] + edges[1:]) / 2

    @property
    def half_widths(self) -> Counts:
        """How far at most a value of each bin lies from what it is taken for."""
        return np.maximum(self.edges[1:] - self.centres, self.centres - self.edges[:-1])

    def count(self, values: Iterable[float]) -> Counts:
        """Count values, all together as 1; nothing where there is none.

        Raises:
            ValueError: a value is not finite.
        """
        known = np.asarray(list(values), np.float64)
        if not np.isfinite(known).all():
            raise ValueError(f"{self.name}: values must be finite")
        place = np.clip(np.searchsorted(self.edges, known, side="right") - 1, 0, self.bins - 1)
        return np.bincount(place, minlength=self.bins) / max(known.size, 1)


@dataclass(frozen=True)
class Sheet:
    """The blocks of one kind of task, in their order."""

    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """How many counts there are."""
        return sum(block.bins for block in self.blocks)

    @property
    def bound(self) -> float:
        """The largest Euclidean norm of one patient's share."""
        return math.sqrt(len(self.blocks))

    def block(self, name: str) -> Block:
        """Give the block of that name."""
        return next(block for block in self.blocks if block.name == name)

    def parts(self, counts: Counts) -> Mapping[str, Counts]:
        """Cut a vector into its blocks, by name.

        Raises:
            ValueError: another number of counts.
        """
        if counts.shape != (self.size,):
            raise ValueError(f"the sheet has {self.size} counts, got {counts.shape}")
        ends = np.cumsum([0, *(block.bins for block in self.blocks)])
        return {
            block.name: counts[start:stop] for block, (start, stop) in zip(self.blocks, pairwise(ends), strict=True)
        }


_SCALARS = (Block(DICE, BINS), Block(IOU, BINS), Block(HD95, BINS, 0.0, FARTHEST_MM))
_VOXELS = (Block(TRUE_VOXELS, BINS), Block(FALSE_VOXELS, BINS))
_SCORES = (Block(POSITIVES, SCORE_BINS), Block(NEGATIVES, SCORE_BINS))
_FIRST, _LAST = Block(PATIENTS, 1), Block(SECONDS, BINS, 1 / 32, 32.0, is_log=True)

_SHEETS: Mapping[EvaluatedTask, Sheet] = {
    "lesions": Sheet(
        (
            _FIRST,
            *_SCALARS,
            Block(SENSITIVITY, BINS),
            Block(FALSE_POSITIVES, int(MOST_FALSE_MARKS), 0.0, MOST_FALSE_MARKS),
            Block(HITS, SCORE_BINS + 1, -1 / SCORE_BINS),
            Block(FALSE_MARKS, SCORE_BINS),
            *_VOXELS,
            _LAST,
        )
    ),
    "structures": Sheet((_FIRST, *_SCALARS, *_VOXELS, _LAST)),
    "classification": Sheet((_FIRST, *_SCORES, _LAST)),
    "multitask": Sheet((_FIRST, *_SCORES, Block(DICE, BINS), Block(DIAMETER, BINS, 0.0, 20.0), _LAST)),
}


def sheet_of(task: EvaluatedTask) -> Sheet:
    """Give the sheet of a kind of task."""
    return _SHEETS[task]


def kind_of(task: AnyTask) -> EvaluatedTask:
    """Give what a release's task is evaluated as."""
    if isinstance(task, Segmentation):
        return "lesions" if task.measure == "lesion_dice" else "structures"
    return "classification" if isinstance(task, Classification) else "multitask"


#: What one patient adds to each block, by name; a block that is not named gets nothing.
Share = Mapping[str, Counts]


def tally(sheet: Sheet, patients: Sequence[Share], *, smallest_cohort: int) -> Counts:
    """Add up the patients' shares, and hide what too few of them, or all but too few, have added to.

    A share that is larger than its bound is scaled down. A block with contributions of fewer patients than the
    smallest cohort is left empty, and so is one to which all others but so few have added: the number of all patients
    less theirs would show the few.

    Returns:
        Shape ``(sheet.size,)``, all empty with fewer patients than the smallest cohort.

    Raises:
        ValueError: a share of another length, or one that is negative or not finite.
    """
    if len(patients) < smallest_cohort:
        return np.zeros(sheet.size)
    return np.concatenate([_column(block, patients, smallest_cohort) for block in sheet.blocks])


def is_hidden(contributors: int, patients: int, *, smallest_cohort: int) -> bool:
    """Whether a count says too much: of those who are in it, or of the others."""
    return any(0 < few < smallest_cohort for few in (contributors, patients - contributors))


def _column(block: Block, patients: Sequence[Share], smallest_cohort: int) -> Counts:
    shares = [bounded(block, share[block.name]) for share in patients if block.name in share]
    if is_hidden(len(shares), len(patients), smallest_cohort=smallest_cohort):
        return np.zeros(block.bins)
    return np.asarray(np.sum([np.zeros(block.bins), *shares], axis=0), np.float64)


def bounded(block: Block, share: Counts) -> Counts:
    """Give a patient's share of a block, scaled down to 1 where it is more.

    Raises:
        ValueError: another length, or a number that is negative or not finite.
    """
    if share.shape != (block.bins,) or not np.isfinite(share).all() or (share < 0).any():
        raise ValueError(f"{block.name}: a share is {block.bins} numbers from 0, got {share}")
    return share / max(1.0, float(share.sum()))


def shown(sheet: Sheet, counts: Counts) -> Iterator[str]:
    """Give the names of the blocks to which anything was added."""
    for name, part in sheet.parts(counts).items():
        if part.any():
            yield name
