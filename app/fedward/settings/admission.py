"""Whether a site takes part in a job: the job's numbers against the site file's bounds. Nothing is read but these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fedward.errors import JobRefused
from fedward.settings.job import EvaluationJob, GateJob, Job, SummedJob, TrainingJob
from fedward.settings.site import Privacy, SiteSettings


def admit(job: Job, *, sites: tuple[str, ...], site: SiteSettings) -> None:
    """Refuse a job that goes beyond the site's bounds, for the first reason found.

    Raises:
        JobRefused: see :func:`refusals`.
    """
    for refusal in refusals(job, sites=sites, site=site):
        raise refusal


def refusals(job: Job, *, sites: tuple[str, ...], site: SiteSettings) -> tuple[JobRefused, ...]:
    """Give every reason for which ``site`` would refuse a job that asks ``sites``; none when it would take part."""
    return tuple(_refusals(job, sites=sites, site=site))


def _refusals(job: Job, *, sites: tuple[str, ...], site: SiteSettings) -> Iterator[JobRefused]:
    if site.name not in sites:
        yield JobRefused("not_invited", f"the job asks {', '.join(sites)}, not {site.name}")
    yield from _listed("kind_not_allowed", "kinds", site.bounds.kinds, job.kind)
    yield from _at_most("valid_too_long", "max_hours_valid", site.bounds.max_hours_valid, job.hours_valid)
    if isinstance(job, TrainingJob):
        yield from _training_refusals(job, sites, site)
    if isinstance(job, EvaluationJob):
        yield from _sum_refusals(job, sites, site)
        if job.local_models and not site.privacy.share_local_model:
            yield JobRefused(
                "local_models_not_allowed",
                "the job sends each hospital's own model to the others, and [privacy] share_local_model is false",
            )
    if isinstance(job, EvaluationJob | GateJob):
        yield from _at_most(
            "too_many_metric_releases", "max_metric_releases", site.privacy.max_metric_releases, 1, section="privacy"
        )


def asked_sites(job: Job, *, site: SiteSettings) -> tuple[str, ...]:
    """Give whom a job asks, as far as a site knows before it is signed: its roster, where the job names nobody."""
    roster = tuple(peer.name for peer in site.identity.hospitals) if site.identity else ()
    return job.sites.names or roster or (site.name,)


def organisations_at_least(sites: tuple[str, ...], minimum: int, *, site: SiteSettings) -> int:
    """Give how many organisations are in every sum of ``minimum`` of the ``sites``, this one among them.

    Who is not in the roster, or revoked, counts for nothing. The fewest are in the sum that takes the unlisted sites
    and this organisation's own first, then the largest of the others.
    """
    peers = site.identity.hospitals if site.identity else ()
    revoked = site.identity.revoked if site.identity else ()
    known = {peer.name: peer.organisation for peer in peers if peer.fingerprint not in revoked}
    known[site.name] = site.organisation
    sizes = Counter(known.get(name, "") for name in sites)
    left = minimum - sizes.pop("", 0) - max(sizes.pop(site.organisation, 0), 1)
    found = 1
    for _, size in sizes.most_common():
        if left <= 0:
            break
        left, found = left - size, found + 1
    return found


def _sum_refusals(job: SummedJob, sites: tuple[str, ...], site: SiteSettings) -> Iterator[JobRefused]:
    bounds = site.bounds
    yield from _listed("exchange_mode_not_allowed", "exchange_modes", bounds.exchange_modes, job.exchange.mode)
    if job.sites.minimum < bounds.min_sites:
        yield JobRefused(
            "too_few_sites",
            f"[bounds] min_sites is {bounds.min_sites}, the job adds up as few as {job.sites.minimum}",
        )
    wanted = bounds.min_organisations if job.exchange.mode == "plain" else bounds.organisations_in_a_sum
    found = organisations_at_least(sites, job.sites.minimum, site=site)
    if found < wanted:
        yield JobRefused(
            "too_few_organisations",
            f"[bounds] min_organisations asks for {wanted}; by the roster a sum of {job.sites.minimum} of the job's "
            f"sites may hold as few as {found}",
        )


def _training_refusals(job: TrainingJob, sites: tuple[str, ...], site: SiteSettings) -> Iterator[JobRefused]:
    bounds, training = site.bounds, job.training
    yield from _listed("network_not_allowed", "networks", bounds.networks, job.network.name)
    yield from _sum_refusals(job, sites, site)
    yield from _at_most("too_many_rounds", "max_rounds", bounds.max_rounds, training.rounds)
    yield from _at_most("too_many_steps", "max_steps", bounds.max_steps, training.total_steps)
    yield from _at_most("patch_too_large", "max_patch_voxels", bounds.max_patch_voxels, training.patch_voxels)
    yield from _at_most("norm_bound_too_large", "max_update_norm", bounds.max_update_norm, job.exchange.max_update_norm)
    yield from _privacy_refusals(job, site.privacy)


def _privacy_refusals(job: TrainingJob, caps: Privacy) -> Iterator[JobRefused]:
    """Whether the patients can afford it is the ledger's question."""
    if job.privacy is None:
        if not caps.allow_non_private:
            yield JobRefused(
                "non_private_not_allowed",
                "the job trains without differential privacy, and [privacy] allow_non_private is false",
            )
        return
    asked = job.privacy
    for code, cap, largest, found in (
        ("clip_norm_too_large", "max_clip_norm", caps.max_clip_norm, asked.clip_norm),
        ("sampling_rate_too_large", "max_sampling_rate", caps.max_sampling_rate, asked.sampling_rate),
        ("too_many_steps", "max_private_steps", caps.max_private_steps, job.training.total_steps),
        ("too_many_metric_releases", "max_metric_releases", caps.max_metric_releases, asked.all_releases),
    ):
        yield from _at_most(code, cap, largest, found, section="privacy")


def _listed(code: str, bound: str, allowed: tuple[str, ...], found: str) -> Iterator[JobRefused]:
    if found not in allowed:
        listed = ", ".join(allowed) or "nothing"
        yield JobRefused(code, f"[bounds] {bound} allows {listed}; the job asks for {found}")


def _at_most(code: str, bound: str, largest: float, found: float, *, section: str = "bounds") -> Iterator[JobRefused]:
    if found > largest:
        yield JobRefused(code, f"[{section}] {bound} is {largest:g}; the job asks for {found:g}")
