"""Which of a job's global models is the best: by the sites' validation scores, weighted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedward.privacy.metrics import PATIENTS, TOTAL

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


def noised_score(metrics: Mapping[str, Mapping[str, float]]) -> float | None:
    """Give the global score of a private job: the sites' noised totals over their noised numbers of patients.

    None when no site gives both, or when the noise leaves no patient at all.
    """
    given = [values for values in metrics.values() if TOTAL in values and PATIENTS in values]
    given = [values for values in given if max(abs(values[TOTAL]), abs(values[PATIENTS])) <= _LARGEST_OTHER]
    patients = sum(values[PATIENTS] for values in given)
    if patients < 1:
        return None
    return min(1.0, max(0.0, sum(values[TOTAL] for values in given) / patients))


@dataclass(frozen=True)
class Best:
    """A model that is kept.

    Attributes:
        round_number: How many rounds went into it.
        score: Its global validation score; None when no site shares one.
    """

    round_number: int
    score: float | None


@dataclass(frozen=True)
class Choice:
    """The best model so far, by a moving average of the scores: one lucky round on few patients is no better model.

    Isensee et al. 2021 (nnU-Net) choose so too. The average here gives the latest score half of the weight.

    Attributes:
        best: None before the first model.
        level: The average when ``best`` was chosen; None when no site has shared a score.
        average: The average now.
        scored: The last round whose model has a score; 0 before the first.
    """

    best: Best | None = None
    level: float | None = None
    average: float | None = None
    scored: int = 0

    def has_stalled(self, *, patience: int | None) -> bool:
        """Whether ``patience`` rounds brought no better model than the best; without scores nothing ever stalls."""
        if patience is None or self.best is None or self.level is None:
            return False
        return self.scored - self.best.round_number >= patience

    def after(self, round_number: int, score: float | None) -> Choice:
        """Give the choice once the model of a later round is known.

        Without any score the latest model is the best; a later one wins a tie, as it has seen more data.
        """
        if score is None:
            return Choice(Best(round_number, None)) if self.average is None else self
        average = score if self.average is None else (self.average + score) / 2
        if self.level is None or average >= self.level:
            return Choice(Best(round_number, score), level=average, average=average, scored=round_number)
        return replace(self, average=average, scored=round_number)
