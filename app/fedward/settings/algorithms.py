"""How the sites' updates become the next model, and what each way needs to see."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fedward.settings.read import Settings

Decay = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1e3)]


class _Algorithm(Settings):
    #: Whether the server needs no more of the updates than their weighted sum.
    is_linear: ClassVar[bool] = True
    #: Whether local training must be plain gradient descent: the algorithm reads gradients off the update.
    needs_plain_descent: ClassVar[bool] = False


class FedAvg(_Algorithm):
    """Add the weighted mean of the updates (McMahan et al. 2017)."""

    name: Literal["fedavg"]
    server_learning_rate: Rate = 1.0


class FedAvgM(_Algorithm):
    """Add a running sum of the mean updates, the older the less (Hsu et al. 2019)."""

    name: Literal["fedavgm"]
    server_learning_rate: Rate = 1.0
    momentum: Decay = 0.9


class FedOpt(_Algorithm):
    """Take the mean update for a gradient, and step as Adam or Yogi does (Reddi et al. 2021, algorithm 2).

    Attributes:
        server_learning_rate: About how far one number moves in a round.
        first_decay: Of the running mean of the updates.
        second_decay: Of the running mean of their squares; 1 keeps it at ``adaptivity`` squared.
        adaptivity: Updates much smaller than this are not scaled up any further.
    """

    name: Literal["fedadam", "fedyogi"]
    server_learning_rate: Rate = 0.01
    first_decay: Decay = 0.9
    second_decay: Annotated[float, Field(ge=0, le=1)] = 0.99
    adaptivity: Annotated[float, Field(gt=0, le=1e3)] = 1e-3


class FedProx(_Algorithm):
    """FedAvg over sites that are each held near the global model (Li et al. 2020).

    Attributes:
        proximal: Added to a site's loss: this half times the squared distance from the round's global model.
    """

    name: Literal["fedprox"]
    server_learning_rate: Rate = 1.0
    proximal: Annotated[float, Field(ge=0, le=1e3)] = 0.01


class Scaffold(_Algorithm):
    """FedAvg over sites that each correct their gradients towards everybody's (Karimireddy et al. 2020, option II)."""

    needs_plain_descent: ClassVar[bool] = True

    name: Literal["scaffold"]
    server_learning_rate: Rate = 1.0


class FedBN(_Algorithm):
    """FedAvg of all but the norms' parameters, which each site keeps for itself (Li et al. 2021)."""

    name: Literal["fedbn"]
    server_learning_rate: Rate = 1.0


class CoordinateMedian(_Algorithm):
    """Take each number's median over the sites, all of one weight (Yin et al. 2018, option I)."""

    is_linear: ClassVar[bool] = False

    name: Literal["median"]


class TrimmedMean(_Algorithm):
    """Take each number's mean without the sites at both ends, all of one weight (Yin et al. 2018, option II).

    Attributes:
        trimmed_share: The share of the sites that is left out at each end, rounded down.
    """

    is_linear: ClassVar[bool] = False

    name: Literal["trimmed_mean"]
    trimmed_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.2


#: FedAvg as it stands in the paper.
FEDAVG = FedAvg(name="fedavg")

AnyAlgorithm = FedAvg | FedAvgM | FedOpt | FedProx | Scaffold | FedBN | CoordinateMedian | TrimmedMean


def algorithm_faults(algorithm: AnyAlgorithm, *, exchange_mode: str) -> tuple[str, ...]:
    """Say why an algorithm cannot run over an exchange, one sentence each; nothing where it can."""
    if exchange_mode == "plain" or algorithm.is_linear:
        return ()
    return (
        f"algorithm {algorithm.name} must see each site's own update, which exchange mode {exchange_mode} never shows: "
        "choose one that works on the sum, or mode plain",
    )


def site_faults(algorithm: AnyAlgorithm, *, optimiser: str) -> tuple[str, ...]:
    """Say why the sites cannot do their part of an algorithm, one sentence; nothing where they can."""
    if optimiser == "sgd" or not algorithm.needs_plain_descent:
        return ()
    return (
        f"algorithm {algorithm.name} reads a site's mean gradient off its update, which only plain descent shows: set "
        f"training.optimiser to sgd, got {optimiser}",
    )
