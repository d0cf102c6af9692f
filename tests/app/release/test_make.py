from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fedward.errors import IdentityError, ReleaseRefused
from fedward.federation.best import Best
from fedward.federation.record import JobRecord, RoundRecord, SitePrivacy
from fedward.identity.certificates import fingerprint
from fedward.identity.document import JobDocument, ReleaseHashes, new_job_document
from fedward.models.networks import build
from fedward.models.weights import layout_of, named, read_weights
from fedward.release.gate import FIRST_RELEASE
from fedward.release.make import make_release
from fedward.release.package import ReleaseParts, model_bytes, verify_release
from fedward.release.passport import Passport
from fedward.settings.job import PrivateTraining, StartFrom
from release_cases import CERTIFICATE, KEY, passport, release_identity, trust
from trust_cases import NOW, PROJECT, Authority, inference_job, training_job

JOB = training_job()
NETWORK = build(JOB.network, task=JOB.task)
LAYOUT, WEIGHTS = layout_of(NETWORK), read_weights(NETWORK)
MODEL = model_bytes(named(LAYOUT, WEIGHTS))
WEIGHTS_SHA256 = hashlib.sha256(WEIGHTS.tobytes()).hexdigest()
DOCUMENT = new_job_document(JOB, project=PROJECT, sites=("east", "north", "south"), now=NOW)


def record(document: JobDocument = DOCUMENT) -> JobRecord:
    made = JobRecord.begin(document)
    for number, sites in enumerate([("east", "north"), ("north", "stranger"), ("east", "south")], start=1):
        made = made.with_round(RoundRecord(number=number, seconds=1.0, weights=dict.fromkeys(sites, 10)))
    made = made.with_validation(2, score=0.75, false_positives=0.5, metrics={})
    return made.with_best(Best(round_number=2, score=0.75), WEIGHTS_SHA256).end("completed", None)


def release(made: JobRecord, *, model: bytes = MODEL, document: JobDocument = DOCUMENT) -> ReleaseParts:
    return make_release(model, document, made, number=4, gate=FIRST_RELEASE, now=NOW, key=KEY, certificate=CERTIFICATE)


def test_the_passport_tells_the_jobs_story() -> None:
    made = verify_release(release(record()), trust()).passport
    assert (made.name, made.number, made.project, made.created) == ("lung_nodule", 4, PROJECT, NOW)
    assert (made.task, made.input, made.network) == (JOB.task, JOB.input, JOB.network)
    assert made.patch_size == JOB.training.patch_size
    assert (made.job_id, made.job_sha256) == (DOCUMENT.id, DOCUMENT.digest)
    assert (made.weights_sha256, made.layout_digest) == (WEIGHTS_SHA256, LAYOUT.digest)
    assert made.metrics == {"validation_score": 0.75, "validation_false_positives": 0.5}
    assert made.signer == fingerprint(CERTIFICATE)
    assert (made.privacy, made.exchange) == (None, JOB.exchange.mode)


def test_only_sites_that_were_asked_and_came_before_the_model_took_part() -> None:
    made = verify_release(release(record())).passport
    assert made.rounds == 2
    assert made.participants == ("east", "north")


PRIVATE = JOB.model_copy(
    update={
        "privacy": PrivateTraining(sampling_rate=0.5, noise_multiplier=1.0, clip_norm=1.0, expected_patients=5),
    }
)
PRIVATE_DOCUMENT = new_job_document(PRIVATE, project=PROJECT, sites=("east", "north", "south"), now=NOW)


def private_record(*silent: str) -> JobRecord:
    """Each round costs 1 more, at sites ``silent`` of which nobody knows; a stranger's word does not count."""
    made = record(PRIVATE_DOCUMENT)
    rounds = tuple(
        entry.model_copy(
            update={
                "privacy": {
                    site: SitePrivacy(epsilon=float(entry.number), delta=1e-5)
                    for site in ("east", "north", "south", "stranger")
                    if site not in silent
                },
                "weights": {site: weight for site, weight in entry.weights.items() if site != "stranger"},
            }
        )
        for entry in made.rounds
    )
    return made.model_copy(update={"rounds": rounds})


def test_the_passport_of_a_private_model_carries_what_the_whole_job_cost_each_site() -> None:
    privacy = verify_release(release(private_record(), document=PRIVATE_DOCUMENT)).passport.privacy
    assert privacy is not None
    assert {site: spent.epsilon for site, spent in privacy.sites.items()} == {"east": 3.0, "north": 3.0, "south": 3.0}


def test_a_private_model_without_a_sites_spend_is_not_released() -> None:
    with pytest.raises(ReleaseRefused, match="unfinished_job"):
        release(private_record("north"), document=PRIVATE_DOCUMENT)


PARENT = passport(number=2)
WARM = JOB.model_copy(update={"start_from": StartFrom(name="lung_nodule", number=2)})


def hashes_of(parent: Passport) -> ReleaseHashes:
    content = hashlib.sha256(parent.content()).hexdigest()
    return ReleaseHashes(model=parent.model_sha256, passport=content, signature="f" * 64)


WARM_DOCUMENT = new_job_document(
    WARM, project=PROJECT, sites=("east", "north", "south"), now=NOW, release=hashes_of(PARENT)
)


def warm_release(parent: Passport | None) -> ReleaseParts:
    made = record(WARM_DOCUMENT)
    about = {"number": 4, "gate": FIRST_RELEASE, "now": NOW, "key": KEY, "certificate": CERTIFICATE}
    return make_release(MODEL, WARM_DOCUMENT, made, parent=parent, **about)


def test_the_passport_names_the_release_that_the_job_started_from() -> None:
    assert verify_release(warm_release(PARENT)).passport.stands_on == PARENT.descent()


@pytest.mark.parametrize(
    "parent", [None, passport(number=1), passport(number=2, rounds=99)], ids=["none", "another number", "altered"]
)
def test_another_line_than_that_of_the_signed_job_makes_no_release(parent: Passport | None) -> None:
    with pytest.raises(ReleaseRefused, match="wrong_descent"):
        warm_release(parent)


def test_a_parent_that_the_job_does_not_name_makes_no_release() -> None:
    about = {"number": 4, "gate": FIRST_RELEASE, "now": NOW, "key": KEY, "certificate": CERTIFICATE}
    with pytest.raises(ReleaseRefused, match="wrong_descent"):
        make_release(MODEL, DOCUMENT, record(), parent=PARENT, **about)


OTHER = new_job_document(JOB, project=PROJECT, sites=("east", "north"), now=NOW)
INFERENCE = new_job_document(inference_job(), project=PROJECT, sites=("east",), now=NOW)


@pytest.mark.parametrize(
    "made",
    [
        record(OTHER),
        JobRecord.begin(DOCUMENT).end("completed", None),
        record().end("failed", "too_few_sites"),
        record().model_copy(update={"best_round": 9}),
        record().model_copy(update={"best_round": None}),
    ],
    ids=["another job's", "without a model", "failed", "best round unknown", "no best round"],
)
def test_a_record_without_a_model_makes_no_release(made: JobRecord) -> None:
    with pytest.raises(ReleaseRefused, match="unfinished_job"):
        release(made)


def test_a_job_that_trains_nothing_makes_no_release() -> None:
    with pytest.raises(ReleaseRefused, match="unfinished_job"):
        release(JobRecord.begin(INFERENCE).end("completed", None), document=INFERENCE)


@pytest.mark.parametrize(
    "model",
    [
        b"",
        model_bytes(named(LAYOUT, WEIGHTS + np.float32(1e-3))),
        model_bytes({"weight": np.zeros(3, np.float32)}),
        model_bytes({name: value.ravel() for name, value in named(LAYOUT, WEIGHTS).items()}),
    ],
    ids=["none", "other weights", "other network", "other shapes"],
)
def test_a_model_that_the_record_does_not_name_makes_no_release(model: bytes) -> None:
    with pytest.raises(ReleaseRefused, match="altered_model"):
        release(record(), model=model)


def test_a_key_that_is_not_the_certificates_makes_no_release() -> None:
    key, _ = release_identity(Authority())
    with pytest.raises(IdentityError, match="bad_signature"):
        make_release(MODEL, DOCUMENT, record(), number=1, gate=FIRST_RELEASE, now=NOW, key=key, certificate=CERTIFICATE)
