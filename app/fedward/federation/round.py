"""One round as a value: who is expected, who has answered, and what comes of it. No clock, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RoundFailed, UpdateRefused
from fedward.federation.averaging import weighted_mean
from fedward.federation.checks import check_update, check_weight

#: Gives one update of the sites' updates and weights.
Combine = Callable[[Mapping[str, NDArray[np.float32]], Mapping[str, int]], NDArray[np.float32]]

#: The code of a site that did not answer in time.
DEADLINE_MISSED = "deadline_missed"


@dataclass(frozen=True)
class Rules:
    """What holds for every round of a job.

    Attributes:
        size: How many numbers an update has.
        max_update_norm: Its largest Euclidean norm.
        weight_cap: The largest weight of a site.
        minimum: How many sites must contribute.
    """

    size: int
    max_update_norm: float
    weight_cap: int
    minimum: int


@dataclass(frozen=True, eq=False)
class Contribution:
    """What a site gives to a round: its update, its public weight, and the metrics that its site file shares.

    The update is None where it went into an encrypted sum.
    """

    update: NDArray[np.float32] | None
    weight: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a site gives nothing: a stable code."""

    code: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """A closed round.

    Attributes:
        number: The round's number.
        update: The sites' updates combined, flat float32.
        weights: Of the sites that contributed.
        failures: The code of each site that did not.
        metrics: By contributing site.
    """

    number: int
    update: NDArray[np.float32]
    weights: Mapping[str, int]
    failures: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Participation:
    """What is known of the sites from one round to the next.

    Attributes:
        sites: Everybody who was asked to take part.
        silent: Those who missed a deadline and have not answered since; nobody waits for them.
        weights: The weight that each site gave first; it holds for the job.
    """

    sites: tuple[str, ...]
    silent: frozenset[str] = frozenset()
    weights: Mapping[str, int] = field(default_factory=dict)

    @property
    def waited_for(self) -> tuple[str, ...]:
        """The sites that a round waits for; all of them when everybody is silent."""
        answering = tuple(site for site in self.sites if site not in self.silent)
        return answering or self.sites

    def heard(self, site: str) -> Participation:
        """Note that a site has answered, in time or late."""
        return replace(self, silent=self.silent - {site})


@dataclass(frozen=True, eq=False)
class Round:
    """A round that is open.

    A silent site may contribute, and does when it answers before the others are done; it is not waited for.
    """

    number: int
    rules: Rules
    participation: Participation
    contributions: Mapping[str, Contribution] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def receive(self, site: str, answer: Contribution | Failure) -> Round:
        """Give the round with a site's answer in it.

        A bad update becomes the site's failure with its code. A second answer of a site, and the answer of a site
        that was not asked, change nothing.
        """
        if site not in self.participation.sites or site in self.contributions or site in self.failures:
            return self
        if isinstance(answer, Failure):
            return replace(self, failures={**self.failures, site: answer.code})
        try:
            check_weight(answer.weight, cap=self.rules.weight_cap, pinned=self.participation.weights.get(site))
            if answer.update is not None:
                check_update(answer.update, size=self.rules.size, max_norm=self.rules.max_update_norm)
        except UpdateRefused as error:
            return replace(self, failures={**self.failures, site: error.code})
        return replace(self, contributions={**self.contributions, site: answer})

    @property
    def answered(self) -> frozenset[str]:
        """The sites that have answered, well or not."""
        return frozenset(self.contributions) | frozenset(self.failures)

    @property
    def is_complete(self) -> bool:
        """Whether there is nobody left to wait for; below the minimum a silent site is given the whole deadline."""
        if len(self.contributions) < self.rules.minimum:
            return set(self.participation.sites) <= self.answered
        return set(self.participation.waited_for) <= self.answered

    def all_failures(self) -> dict[str, str]:
        """Give the code of every site without a contribution as of now."""
        silent = {site: DEADLINE_MISSED for site in self.participation.sites if site not in self.answered}
        return {**silent, **self.failures}

    def check_minimum(self) -> None:
        """Refuse to go on without enough contributions.

        Raises:
            RoundFailed: ``too_few_sites``: fewer than the minimum.
        """
        if len(self.contributions) < self.rules.minimum:
            failures = ", ".join(f"{site}: {code}" for site, code in sorted(self.all_failures().items()))
            raise RoundFailed(
                "too_few_sites",
                f"round {self.number}: expected at least {self.rules.minimum} contributions, "
                f"found {len(self.contributions)} ({failures or 'no failures'})",
            )

    def close(self, mean: NDArray[np.float32] | None = None, *, combine: Combine = weighted_mean) -> Outcome:
        """Combine what has come.

        Args:
            mean: The weighted mean where an encrypted sum has given it.
            combine: What to make of the sites' own updates elsewhere.

        Raises:
            RoundFailed: ``too_few_sites``: fewer contributions than the minimum.
        """
        self.check_minimum()
        weights = {site: given.weight for site, given in self.contributions.items()}
        updates = {site: given.update for site, given in self.contributions.items() if given.update is not None}
        return Outcome(
            number=self.number,
            update=combine(updates, weights) if mean is None else mean,
            weights=weights,
            failures=self.all_failures(),
            metrics={site: given.metrics for site, given in self.contributions.items()},
        )

    def next_participation(self) -> Participation:
        """Give what the following round starts from: who is silent now, and the first weight of each site."""
        weights = {site: given.weight for site, given in self.contributions.items()}
        return replace(
            self.participation,
            silent=frozenset(self.participation.sites) - self.answered,
            weights={**weights, **self.participation.weights},
        )
