"""A job that takes one vector of noised counts from a hospital, once: reserved, charged, sealed, then summed.

What is counted is the caller's; here stands what makes it one release of the privacy ledger and one round of a sum.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.errors import JobRefused
from fedward.federation.checks import WEIGHT_STEP
from fedward.federation.ckks import Encrypted
from fedward.federation.consent import hash_model
from fedward.federation.secure_job import count_names, quantiser_of
from fedward.federation.secure_messages import Box, Masked
from fedward.identity.document import JobDocument
from fedward.privacy.accounting import epsilon
from fedward.privacy.head import Head
from fedward.privacy.ledger import JobId, Ledger
from fedward.privacy.mechanisms import Gaussian, Spend, Unprotected
from fedward.privacy.plan import Spent
from fedward.privacy.sealed import Answer, answer_once
from fedward.randomness import Secret, add_noise
from fedward.settings.job import EvaluationJob
from fedward.settings.site import Privacy, SiteSettings
from fedward.site_ckks import SiteCkks
from fedward.site_sum import SiteSum
from fedward.site_sums import SummedAtSite
from fedward.store.vault import Vault

Counts = NDArray[np.float64]

#: The groups of the ledger: that which is counted over, patients whom no training sees; and those on whom the
#: hospital's own model was trained, of whom that model alone tells.
TEST, TRAIN = "test", "train"

#: The only round of such a job, and the ledger's number for the leaving of the hospital's own model.
ONLY_ROUND, MODEL_ROUND = 1, 2

#: What is said of a job's cost is rounded up to this share of 1.
_DECIMALS = 10_000


@dataclass(frozen=True, eq=False)
class Counted:
    """What leaves a hospital.

    Attributes:
        noised: Counts with noise, shape ``(count,)``; under an encrypted sum that vector masked.
        spent: What the noised counts cost any counted patient here.
        noise_multiplier: Theirs: a setting of job and site, computed from no patient.
        rows: Exact counts by name, each as long as the noised ones: those that the site file shares.
        head: Of the site's privacy ledger, for the server to remember.
    """

    noised: Counts | Masked | Encrypted
    spent: Spent
    noise_multiplier: float
    rows: Mapping[str, Counts]
    head: Head


@dataclass(frozen=True)
class Reserved:
    """The patients of such a job, as they stand in the ledger from its first task on.

    Attributes:
        counted: The keys of the held-out patients who are counted over.
        trained: The pseudonyms of those on whom the hospital's own model was trained.
    """

    counted: frozenset[str]
    trained: frozenset[str]


@dataclass(frozen=True, eq=False)
class SiteCounts(SummedAtSite):
    """Such a job at this hospital.

    Attributes:
        site: The hospital's own settings.
        document: The accepted job.
        job: What it says.
        ledger: The hospital's privacy ledger.
        model_sha256: Of the model that the job is about; it binds the sum.
        size: How many counts there are.
        bound: The largest Euclidean norm of one patient's share.
        unprotected: The groups of whom what leaves is exact, with the site file's leave.
        sum: The site's part in the job's encrypted sum; None in plain mode.
    """

    site: SiteSettings
    document: JobDocument
    job: EvaluationJob
    ledger: Ledger
    model_sha256: str
    size: int
    bound: float
    unprotected: tuple[str, ...]
    sum: SiteSum | SiteCkks | None

    @classmethod
    def open(
        cls,
        site: SiteSettings,
        site_file: Path,
        document: JobDocument,
        job: EvaluationJob,
        ledger: Ledger,
        *,
        model_sha256: str,
        size: int,
        bound: float,
        unprotected: tuple[str, ...] = (),
        clock: Callable[[], datetime],
    ) -> SiteCounts:
        """Prepare the site's part; nothing is reserved yet.

        Raises:
            SumRefused: see :func:`quantiser_of`.
        """
        secure: SiteSum | SiteCkks | None = None
        if job.exchange.mode != "plain":
            quantiser = quantiser_of(job, size=size, sites=len(document.sites))
            kind = SiteSum if job.exchange.mode == "secure-sum" else SiteCkks
            secure = kind(site_file, document, job, quantiser, _folder(site, document), clock)
        return cls(site, document, job, ledger, model_sha256, size, bound, unprotected, secure)

    @property
    def noised(self) -> Gaussian:
        """What the noised counts are to the ledger."""
        return release_of(self.job, self.site.privacy)

    @property
    def is_shared(self) -> bool:
        """Whether the exact counts leave beside the noised ones."""
        return TEST in self.unprotected

    @property
    def spent(self) -> Spent:
        """What the noised counts cost any counted patient."""
        return spent_by(self.noised, self.site.privacy.delta)

    @property
    def has_given_model(self) -> bool:
        """Whether the hospital's own model has left in this job, whatever the server says of it."""
        job = self.ledger.entries().jobs.get(self.document.id)
        return job is not None and MODEL_ROUND in job.rounds and job.rounds[MODEL_ROUND].is_sent

    def reserve(self, held_out: Collection[str], *, trained: Collection[str] | None = None) -> Reserved:
        """Reserve the job's cost for every patient who can afford it; asked again, give who that was.

        Args:
            held_out: The keys of the patients to count over. One who trained the hospital's own model is not counted.
            trained: Where that model is at stake, the pseudonyms of those on whom it was trained, who must not be few.

        Raises:
            JobRefused: ``too_few_patients``, ``privacy_spent``, ``delta_too_large`` or ``repeated_job``.
            StoreError: the ledger cannot be trusted or written.
        """
        self._check_delta(held_out)
        names = {key: self.ledger.pseudonym(key) for key in held_out}
        groups = (TEST,) if trained is None else (TEST, TRAIN)
        document = self.document
        self.ledger.reserve(
            JobId(document.id, self.job.name, document.digest, document.expires),
            patients=dict.fromkeys(names.values(), TEST) | dict.fromkeys(trained or (), TRAIN),
            plan=self._spend(groups),
            smallest_cohort=dict.fromkeys(groups, self.site.bounds.min_patients),
            after_unprotected=self.site.privacy.allow_non_private,
        )
        group_of = self.ledger.entries().jobs[document.id].patients
        return Reserved(
            frozenset(key for key, name in names.items() if group_of.get(name) == TEST),
            frozenset(name for name, group in group_of.items() if group == TRAIN),
        )

    def answer(
        self, count: Callable[[], Mapping[str, Counts]], *, groups: Collection[str], seen: Head | None
    ) -> Answer:
        """Charge the job, count, add the noise, and seal what comes of it; asked again, give the same.

        Args:
            count: Gives the exact counts, ``counted`` for the noised sum and the others as rows.
            groups: Those that were reserved.
            seen: The latest head of this site's ledger that the server knows of.

        Raises:
            JobRefused, StoreError: see :func:`answer_once`.
        """
        if seen is not None:
            self.ledger.check_seen(seen)

        def make() -> Answer:
            exact = dict(count())
            noised = noised_counts(
                exact.pop("counted"), bound=self.bound, noise_multiplier=self.noised.noise_multiplier, secret=Secret()
            )
            values = dict(zip(count_names(self.size), noised.tolist(), strict=True))
            for row, counts in exact.items():
                values |= {f"{row}.{place}": value for place, value in enumerate(counts.tolist())}
            return Answer(None, WEIGHT_STEP, values)

        return self._sealed(ONLY_ROUND, model_sha256=self.model_sha256, spend=self._spend(groups), make=make)

    def seal_model(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Charge those whom the hospital's own model was trained on, and seal it; asked again, give the same.

        Raises:
            JobRefused: ``model_changed``: another model was charged or sealed before, and no second one leaves.
            JobRefused, StoreError: see :func:`answer_once`; the job's cost has been reserved.
        """
        digest = hash_model(weights)
        answer = self._sealed(
            MODEL_ROUND,
            model_sha256=digest,
            spend={TRAIN: (Unprotected(),)},
            make=lambda: Answer(weights, WEIGHT_STEP, {}),
        )
        if answer.update is None or hash_model(answer.update) != digest:
            raise JobRefused("model_changed", "what lies sealed is not the own model that this hospital has signed")
        return answer.update

    def leaving(self, answer: Answer, boxes: Sequence[Box]) -> Counted:
        """Give what leaves of a sealed answer.

        Raises:
            SumRefused, IdentityError, UpdateRefused: see :meth:`SiteSum.masked`.
        """
        noised: Counts | Masked | Encrypted
        if self.sum is None:
            noised = np.array([answer.metrics[name] for name in count_names(self.size)])
        else:
            noised = self.sum.masked(ONLY_ROUND, answer, model_sha256=self.model_sha256, boxes=boxes)
        return Counted(noised, self.spent, self.noised.noise_multiplier, rows_of(answer, self.size), self.ledger.head())

    def close(self) -> None:
        """End the job here."""
        self.ledger.close(self.document.id)
        shutil.rmtree(_folder(self.site, self.document), ignore_errors=True)

    def _sealed(self, number: int, *, model_sha256: str, spend: Spend, make: Callable[[], Answer]) -> Answer:
        return answer_once(
            self.ledger,
            _folder(self.site, self.document),
            vault=Vault.open(self.site.sealing_key),
            job_id=self.document.id,
            number=number,
            model_sha256=model_sha256,
            spend=spend,
            make=make,
        )

    def _spend(self, groups: Collection[str]) -> Spend:
        return {group: (Unprotected(),) if group in self.unprotected else (self.noised,) for group in sorted(groups)}

    def _check_delta(self, patients: Collection[str]) -> None:
        delta = self.site.privacy.delta
        if delta * len(patients) > 0.1:
            raise JobRefused(
                "delta_too_large",
                f"[privacy] delta is {delta:g}; with {len(patients)} patients it must be at most "
                f"{0.1 / len(patients):g}",
            )


def release_of(job: EvaluationJob, caps: Privacy) -> Gaussian:
    """Give a job's release of counts at a site: its noise is what is proposed, never less than the site's minimum."""
    return Gaussian(max(job.privacy.noise_multiplier, caps.min_noise_multiplier), 1)


def spent_by(mechanism: Gaussian, delta: float) -> Spent:
    """Give what a release costs, rounded up."""
    return Spent(math.ceil(epsilon((mechanism,), delta) * _DECIMALS) / _DECIMALS, delta)


def noised_counts(exact: Counts, *, bound: float, noise_multiplier: float, secret: Secret) -> Counts:
    """Add noise to counts of which one patient can change a vector of norm ``bound`` at most."""
    deviation = noise_multiplier * bound
    return add_noise(exact, secret.gaussian(exact.size, deviation), deviation=deviation)


def rows_of(answer: Answer, size: int) -> dict[str, Counts]:
    """Give an answer's exact rows by name."""
    rows: dict[str, Counts] = {}
    for name in answer.metrics:
        row, dot, place = name.partition(".")
        if dot and place == "0":
            rows[row] = np.array([answer.metrics[f"{row}.{at}"] for at in range(size)])
    return rows


def _folder(site: SiteSettings, document: JobDocument) -> Path:
    return site.state / "jobs" / document.id
