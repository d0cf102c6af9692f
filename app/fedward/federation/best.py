"""Which of a job's global models is the best: by the sites' validation scores, weighted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: The metric that chooses, as a site file's ``share_metrics`` names it.
SCORE = "validation_score"

#: A site's number beyond these counts as not shared: one site's nonsense must not choose the model.
_LARGEST = {SCORE: 1.0}
_LARGEST_OTHER = 1e6


def global_metric(
    metrics: Mapping[str, Mapping[str, float]], weights: Mapping[str, int], name: str = SCORE
) -> float | None:
    """Give the weighted mean of one metric over the sites that share it; None when none does.

    A value that is negative, not finite or too large for its metric is left out.
    """
    largest = _LARGEST.get(name, _LARGEST_OTHER)
    shared = {site: values[name] for site, values in metrics.items() if 0 <= values.get(name, -1) <= largest}
    total = sum(weights[site] for site in shared)
    if total <= 0:
        return None
    return sum(weights[site] * value for site, value in sorted(shared.items())) / total


@dataclass(frozen=True)
class Best:
    """The best model so far.

    Attributes:
        round_number: How many rounds went into it.
        score: Its global validation score; None when no site shares one.
    """

    round_number: int
    score: float | None

    def is_beaten_by(self, score: float | None) -> bool:
        """Whether a later model with ``score`` takes its place.

        Without any score the latest model is the best; a later one wins a tie, as it has seen more data.
        """
        if score is None:
            return self.score is None
        return self.score is None or score >= self.score
