"""A map of where an answer comes from, in colours that let the image through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Red, green and blue of a weak place and of a strong one, and how much a strong one covers.
_WEAK, _STRONG = np.array([255.0, 214.0, 64.0]), np.array([255.0, 32.0, 0.0])
_COVER = 0.6

#: Below this nothing is coloured.
_FAINT = 0.1


def coloured(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn values in [0, 1], shape ``(row, column)``, into red, green, blue and alpha, ``(row, column, 4)``."""
    share = heat[..., None].clip(0, 1)
    colour = _WEAK + (_STRONG - _WEAK) * share
    alpha = np.where(share < _FAINT, 0.0, share * _COVER * 255)
    return np.asarray(np.rint(np.concatenate([colour, alpha], axis=-1)), dtype=np.uint8)
