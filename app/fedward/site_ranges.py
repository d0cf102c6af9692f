"""What a hospital says of its training images: in which bins of spacing and intensity how many patients lie."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedward.imaging.cases import SiteData
from fedward.imaging.traits import patient_share, trait_keys, traits_of
from fedward.privacy.plan import Plan
from fedward.privacy.shares import noised_shares, summed_shares
from fedward.randomness import Secret


def training_ranges(data: SiteData, plan: Plan, number: int) -> Mapping[str, float]:
    """Give the counts that leave with round ``number``; none in most rounds.

    A private job's are clipped for each patient and noised: the ledger charges that release to everybody who trains.
    Those of another job are exact, and leave only where the site file's ``share_metrics`` lists ``training_ranges``.
    """
    if not plan.gives_ranges(number):
        return {}
    settings = plan.job.input
    images: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for case in data.train:
        images[case.patient_key].append(case.traits())
    shares = [patient_share(of_patient, settings) for of_patient in images.values()]
    bound = math.sqrt(len(traits_of(settings)))
    if plan.asked is None:
        counts = summed_shares(shares, bound=bound)
    else:
        noise = plan.range_noise_multiplier
        counts = noised_shares(shares, bound=bound, noise_multiplier=noise, secret=Secret())
    return dict(zip(trait_keys(settings), counts.tolist(), strict=True))
