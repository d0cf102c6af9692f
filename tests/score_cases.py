"""Random scores with their truth: with ties, with one class only, and with nothing at all among them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def scored(draw: st.DrawFn, *, most: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Scores in [0, 1] and booleans; a coarse grid gives ties."""
    count = draw(st.integers(0, most))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    digits = draw(st.sampled_from([1, 2, 12]))
    truth = generator.random(count) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    scores = np.clip(generator.normal(0.4 + 0.2 * truth, 0.25), 0, 1)
    return np.round(scores, digits), truth


def overconfident(count: int, seed: int, *, temperature: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(case, 3)`` that are ``temperature`` times too large for the labels that are drawn from them."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(0, 1.5, (count, 3))
    shares = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < generator.random((count, 1))).sum(axis=1)
    return honest * temperature, labels
