"""Where a label is not background, so that small lesions are drawn as often as large ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Foreground:
    """The voxels of every connected component of every class.

    Attributes:
        voxels: Shape ``(voxel, 3)``, int32, component after component.
        starts: Shape ``(component + 1,)``, int64: where each component begins in ``voxels``, and the end.
        classes: Shape ``(component,)``, uint8: each component's class.
    """

    voxels: NDArray[np.int32]
    starts: NDArray[np.int64]
    classes: NDArray[np.uint8]

    @property
    def count(self) -> int:
        """How many components there are."""
        return len(self.classes)

    def draw(self, generator: np.random.Generator) -> tuple[int, int, int]:
        """Draw a class, then one of its components, then one of its voxels, each evenly.

        Raises:
            ValueError: there is no foreground.
        """
        return self.draw_in_component(generator)[1]

    def draw_in_component(self, generator: np.random.Generator) -> tuple[int, tuple[int, int, int]]:
        """Draw likewise, and give the component's number before its voxel.

        Raises:
            ValueError: there is no foreground.
        """
        if not self.count:
            raise ValueError("a label without foreground has no voxel to draw")
        chosen = generator.choice(np.unique(self.classes))
        component = int(generator.choice(np.flatnonzero(self.classes == chosen)))
        voxel = self.voxels[generator.integers(self.starts[component], self.starts[component + 1])]
        return component, (int(voxel[0]), int(voxel[1]), int(voxel[2]))


def find_foreground(label: NDArray[np.uint8]) -> Foreground:
    """Find the 26-connected components of every class in ``label``."""
    parts: list[NDArray[np.int32]] = []
    classes: list[int] = []
    for index in np.unique(label[label > 0]):
        components, count = ndimage.label(label == index, structure=_NEIGHBOURS_26)
        boxes = ndimage.find_objects(components)
        for number, box in enumerate(boxes, start=1):
            corner = [part.start for part in box]
            parts.append((np.argwhere(components[box] == number) + corner).astype(np.int32))
        classes += [int(index)] * count
    voxels = np.concatenate(parts) if parts else np.empty((0, 3), dtype=np.int32)
    starts = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
    return Foreground(voxels, starts, np.array(classes, dtype=np.uint8))
