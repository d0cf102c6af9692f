"""What mechanisms cost: Rényi differential privacy, composed, and converted to (epsilon, delta).

Adjacent are two hospitals that differ in one patient with all studies. The divergences come from ``dp_accounting``
(subsampled Gaussian: Mironov, Talwar and Zhang 2019); the conversion is proposition 12 of Canonne, Kamath and Steinke
2020. Every number errs on the side of less privacy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.mechanisms import Gaussian, Mechanism, SampledGaussian, Unprotected

#: Rényi orders at which divergences are taken: whole numbers, for which the series is finite. The large ones serve a
#: small epsilon.
ORDERS: tuple[int, ...] = (*range(2, 65), *range(68, 129, 4), 144, 160, 192, 224, 256, 320, 384, 448, 512, 768, 1024)

#: The relative width to which a calibrated noise multiplier is known; the larger end of it is taken.
_CALIBRATION_WIDTH = 1e-3
_LARGEST_NOISE = 1e6


def renyi(mechanisms: Sequence[Mechanism], orders: Sequence[int] = ORDERS) -> NDArray[np.float64]:
    """Give the Rényi divergence of all mechanisms together at each order, shape ``(order,)``.

    It is infinite for what is not protected at all.
    """
    if any(isinstance(mechanism, Unprotected) for mechanism in mechanisms):
        return np.full(len(orders), np.inf)
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(orders, dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    for mechanism in mechanisms:
        match mechanism:
            case SampledGaussian(sampling_rate=rate, noise_multiplier=noise, steps=count):
                event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
            case Gaussian(noise_multiplier=noise, releases=count):
                event = dp_accounting.GaussianDpEvent(noise)
        if count:
            accountant.compose(event, count)
    return np.asarray(accountant.rdp, dtype=np.float64)


def renyi_cost(mechanisms: Sequence[Mechanism], order: int) -> float:
    """Give what mechanisms take of a budget that is kept at one order."""
    return float(renyi(mechanisms, (order,))[0])


def epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Give the smallest epsilon over all orders; 0 for no mechanism at all.

    Raises:
        ValueError: ``delta`` does not lie in (0, 1).
    """
    divergences = renyi(mechanisms)
    if not divergences.any():
        return 0.0
    return max(0.0, min(float(cost) + _gap(order, delta) for order, cost in zip(ORDERS, divergences, strict=True)))


def budget(target_epsilon: float, delta: float, order: int) -> float:
    """Give the largest Rényi divergence at ``order`` that still gives ``(target_epsilon, delta)``.

    A privacy filter (Feldman and Zrnic 2021) keeps the sum of adaptively chosen costs below it.

    Raises:
        ValueError: at this order not even nothing would satisfy the target.
    """
    left = target_epsilon - _gap(order, delta)
    if left <= 0:
        raise ValueError(f"epsilon {target_epsilon:g} at delta {delta:g} leaves nothing to spend at order {order}")
    return left


def calibrate(target_epsilon: float, delta: float, mechanisms_of: Callable[[float], Sequence[Mechanism]]) -> float:
    """Give the smallest noise multiplier, to a thousandth, that keeps mechanisms within a target; never a smaller one.

    Args:
        target_epsilon: Above 0.
        delta: In (0, 1).
        mechanisms_of: Gives the mechanisms for a noise multiplier; more noise must not cost more.

    Raises:
        ValueError: no noise is enough.
    """
    high = 1.0
    while epsilon(mechanisms_of(high), delta) > target_epsilon:
        high *= 2
        if high > _LARGEST_NOISE:
            raise ValueError(f"no noise gives epsilon {target_epsilon:g} at delta {delta:g}")
    low = 0.0
    while high - low > _CALIBRATION_WIDTH * high:
        middle = (low + high) / 2
        if epsilon(mechanisms_of(middle), delta) > target_epsilon:
            low = middle
        else:
            high = middle
    return high


def _gap(order: int, delta: float) -> float:
    """Give epsilon minus the divergence at one order."""
    if not 0 < delta < 1:
        raise ValueError(f"delta lies in (0, 1), got {delta}")
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
