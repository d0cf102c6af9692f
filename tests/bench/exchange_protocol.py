"""The encrypted sum's own work without the engine: seconds of a site and of the server in a round of all sites."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure

from fedward.federation.quantise import Quantiser
from fedward.federation.secure_agreement import read_set_ups
from fedward.federation.secure_messages import Session
from fedward.federation.secure_sum import ServerRound
from fedward.randomness import Secret
from secure_cases import MODEL, Site, hospital, roster_of, sha
from trust_cases import NOW

#: Hospitals at 5 M parameters.
SITES = (3, 5, 8, 16, 64)
#: Parameters at three hospitals.
PARAMETERS = (1_000_000, 5_000_000, 20_000_000, 90_000_000)

T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """One federation's round, in seconds of processor time.

    Attributes:
        sites: Hospitals.
        parameters: Numbers of the network.
        site_s: Mean over the sites: encode, mask, sign, vote and open.
        server_s: Add every vector, count the votes, recover the secrets, unmask and decode.
        round_s: One site beside the server's whole work, as the sites work at once.
    """

    sites: int
    parameters: int
    site_s: float
    server_s: float
    round_s: float


class Clock:
    """Adds up the processor time that is spent in calls: what else the machine does is not in it."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def of(self, work: Callable[[], T]) -> T:
        began = time.process_time()
        done = work()
        self.spent_s += time.process_time() - began
        return done


def measure(sites: int, parameters: int) -> Measured:
    """Do one round of ``sites`` hospitals; each site's update is the same, its masks are not."""
    names = tuple(f"h{number:02d}" for number in range(sites))
    quantiser = Quantiser.finest(parameters, clip=1.0, weight_cap=1000, sites=sites)
    session = Session(
        job_id="a" * 32,
        job_sha256=sha("job"),
        quantiser_sha256=quantiser.digest,
        sites=names,
        length=quantiser.length,
        attempt=0,
        first_round=1,
        last_round=1,
    )
    signers = [hospital(name, rsa=True) for name in names]
    roster = roster_of(*signers)
    at = {signer.name: Site(signer, roster) for signer in signers}
    set_ups = [site.begin(session) for site in at.values()]
    boxes = [box for site in at.values() for box in site.take_set_ups(set_ups)]
    for name, site in at.items():
        site.take_shares([box for box in boxes if box.receiver == name])
    agreement = read_set_ups(set_ups, session, roster=roster, now=NOW).joined_by(names)
    return _round(at, ServerRound(agreement, 1, model_sha256=MODEL), quantiser)


def _round(at: dict[str, Site], server: ServerRound, quantiser: Quantiser) -> Measured:
    update = np.random.default_rng(0).normal(0, 1e-3, quantiser.size).astype(np.float32)
    secret, at_server, at_site = Secret(), Clock(), {name: Clock() for name in at}

    def masked(site: Site):
        return site.mask(1, quantiser.encode(update, weight=10, metrics={}, secret=secret).vector)

    for name, site in at.items():
        sent = at_site[name].of(lambda site=site: masked(site))
        at_server.of(lambda name=name, sent=sent: server.receive(name, sent))
    survivors = at_server.of(server.close)
    for name, site in at.items():
        vote = at_site[name].of(lambda site=site: site.vote(1, survivors))
        at_server.of(lambda name=name, vote=vote: server.count(name, vote))
    opened = [at_site[name].of(lambda site=site: site.open(1, survivors, server.votes)) for name, site in at.items()]
    decoded = at_server.of(lambda: quantiser.decode(server.unmask(opened), contributors=len(at)))
    if not np.allclose(decoded.update, update, atol=1e-3):
        raise SystemExit("the sum is not the mean")
    site_s = statistics.mean(clock.spent_s for clock in at_site.values())
    return Measured(len(at), quantiser.size, site_s, at_server.spent_s, site_s + at_server.spent_s)


def measure_all() -> dict[str, list[dict[str, float]]]:
    """Give both series."""
    measure(3, 1_000_000)  # The first one pays for what is loaded once.
    return {
        "by_sites": [asdict(measure(sites, 5_000_000)) for sites in SITES],
        "by_parameters": [asdict(measure(3, parameters)) for parameters in PARAMETERS],
    }


def plot(series: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw both series."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, (name, by) in zip(axes, series.items(), strict=True):
        unit = name.removeprefix("by_")
        at = [entry[unit] for entry in by]
        for key, label in (("site_s", "one site"), ("server_s", "server"), ("round_s", "together")):
            axis.loglog(at, [entry[key] for entry in by], marker="o", label=label)
        axis.set_xticks(at, [f"{value:,}" for value in at])
        axis.minorticks_off()
        axis.set(xlabel=unit, ylabel="processor seconds a round")
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_title("5 M parameters")
    axes[1].set_title("3 sites")
    axes[0].legend()
    figure.savefig(path, dpi=120)
