from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from evaluation_cases import evaluation_job
from fedward.errors import FedwardError, IdentityError, JobRefused
from fedward.identity import canonical
from fedward.identity.certificates import fingerprint
from fedward.identity.document import (
    JobDocument,
    ReleaseHashes,
    SignedJob,
    new_job_document,
    parse_document,
    sign_job,
    verify_job,
)
from fedward.identity.signing import sign
from fedward.settings.job import PublishJob, Sites
from fedward.settings.site import Identity
from trust_cases import DAY, NOW, PROJECT, Authority, der, identity, inference_job, pem, pem_of, rsa_key, training_job

ROOT = Authority()
COORDINATOR = ROOT.leaf("coordinator@fedward.example")
SITES = ("south", "east", "north")
HASHES = ReleaseHashes(model="a" * 64, passport="b" * 64, signature="c" * 64)


def document(**more: object) -> JobDocument:
    made = new_job_document(training_job(), project=PROJECT, sites=SITES, now=NOW)
    return JobDocument.model_validate({**made.model_dump(), **more})


def signed(content: JobDocument | None = None, *, by: str = "coordinator@fedward.example") -> SignedJob:
    certificate = COORDINATOR if by == "coordinator@fedward.example" else ROOT.leaf(by)
    return sign_job(content or document(), private_key=pem_of(rsa_key(by)), certificate=pem(certificate))


@pytest.fixture
def trust(tmp_path: Path) -> Identity:
    return identity(tmp_path, ROOT, COORDINATOR)


def refusal(job: SignedJob, trust: Identity, *, now: datetime = NOW) -> str:
    with pytest.raises(FedwardError, match=r"^[a-z_]+$") as caught:
        verify_job(job, trust, now=now)
    return caught.value.code


def test_a_listed_coordinators_job_is_what_was_signed(trust: Identity) -> None:
    made = document()
    assert verify_job(signed(made), trust, now=NOW) == made


def test_every_job_has_its_own_random_id() -> None:
    ids = {document().id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(value) == 32 for value in ids)


def test_sites_are_a_sorted_set_whatever_order_they_come_in() -> None:
    made = new_job_document(training_job(), project=PROJECT, sites=(*SITES, "east"), now=NOW)
    assert made.sites == ("east", "north", "south")


def test_the_bytes_give_the_document_back() -> None:
    made = document()
    assert parse_document(made.content()) == made
    assert parse_document(made.content()).digest == made.digest


def test_no_flipped_byte_of_the_document_is_accepted(trust: Identity) -> None:
    job = signed()
    for place in range(len(job.document)):
        altered = bytearray(job.document)
        altered[place] ^= 1
        assert refusal(dataclasses.replace(job, document=bytes(altered)), trust) == "bad_signature"


def test_no_flipped_byte_of_the_certificate_is_accepted(trust: Identity) -> None:
    job, content = signed(), der(COORDINATOR)
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        assert refusal(dataclasses.replace(job, certificate=bytes(altered)), trust) in {
            "untrusted_certificate",
            "unlisted_signer",
        }


def test_a_document_signed_for_another_purpose_is_none(trust: Identity) -> None:
    made = document()
    signature = sign(rsa_key("coordinator@fedward.example"), purpose="release", content=made.content())
    assert refusal(SignedJob(made.content(), signature, pem(COORDINATOR)), trust) == "bad_signature"


@pytest.mark.parametrize("who", ["server", "north", "operator@fedward.example"])
def test_a_login_certificate_of_the_same_root_is_not_enough(trust: Identity, who: str) -> None:
    assert refusal(signed(by=who), trust) == "unlisted_signer"


def test_another_certificate_with_the_coordinators_name_is_not_enough(trust: Identity) -> None:
    other = ROOT.leaf("coordinator@fedward.example", key=rsa_key("thief"))
    job = sign_job(document(), private_key=pem_of(rsa_key("thief")), certificate=pem(other))
    assert refusal(job, trust) == "unlisted_signer"


def test_a_listed_signer_of_another_root_is_refused(tmp_path: Path) -> None:
    foreign = Authority("foreign").leaf("coordinator@fedward.example")
    job = dataclasses.replace(signed(), certificate=pem(foreign))
    assert refusal(job, identity(tmp_path, ROOT, foreign)) == "untrusted_certificate"


def test_a_revoked_signer_is_refused_though_listed(tmp_path: Path) -> None:
    trust = identity(tmp_path, ROOT, COORDINATOR, revoked=(fingerprint(COORDINATOR),))
    assert refusal(signed(), trust) == "revoked_signer"


def test_an_expired_signer_is_refused(tmp_path: Path) -> None:
    old = ROOT.leaf("coordinator@fedward.example", days=(-100, -1))
    job = dataclasses.replace(signed(), certificate=pem(old))
    assert refusal(job, identity(tmp_path, ROOT, old)) == "expired_certificate"


def test_a_missing_root_trusts_nobody(trust: Identity) -> None:
    trust.root_certificate.unlink()
    assert refusal(signed(), trust) == "untrusted_certificate"


def test_another_projects_job_is_refused(trust: Identity) -> None:
    assert refusal(signed(document(project="elsewhere")), trust) == "wrong_project"


def test_a_job_holds_for_its_hours_and_for_clocks_that_differ_a_little(trust: Identity) -> None:
    job, hours = signed(), timedelta(hours=24)
    for moment in (NOW - timedelta(minutes=9), NOW, NOW + hours):
        assert verify_job(job, trust, now=moment)
    for moment in (NOW - timedelta(minutes=11), NOW + hours + timedelta(seconds=1)):
        assert refusal(job, trust, now=moment) == "expired_job"


def test_the_refusals_of_a_document_are_the_sites_own(trust: Identity) -> None:
    with pytest.raises(JobRefused, match="expired_job"):
        verify_job(signed(), trust, now=NOW + 2 * DAY)


def test_a_key_that_is_not_the_certificates_signs_nothing() -> None:
    with pytest.raises(IdentityError, match="bad_signature"):
        sign_job(document(), private_key=pem_of(rsa_key("thief")), certificate=pem(COORDINATOR))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sites": ["north", "east", "south"]}, "sorted"),
        ({"sites": ["east", "east"]}, "sorted"),
        ({"sites": ["../east", "north"]}, "sites"),
        ({"sites": ["east"]}, "needs 2 sites"),
        ({"sites": []}, "sites"),
        ({"expires": NOW}, "valid for"),
        ({"expires": NOW + 2 * DAY}, "valid for"),
        ({"created": NOW.replace(tzinfo=None)}, "created"),
        ({"id": "0" * 31}, "id"),
        ({"id": "../../../../../../../../../../etc"}, "id"),
        ({"project": "a/b"}, "project"),
        ({"format": "fedward-job/2"}, "format"),
        ({"release": HASHES}, "no other"),
        ({"path": "os.system"}, "path"),
    ],
)
def test_a_document_that_says_something_else_is_none(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        document(**change)


def test_a_publishing_job_and_no_other_names_a_release() -> None:
    job = PublishJob(kind="publish", name="publish", sites=Sites(minimum=1))
    made = new_job_document(job, project=PROJECT, sites=SITES, now=NOW, release=HASHES)
    assert parse_document(made.content()).release == HASHES
    for wrong_job, release in ((job, None), (inference_job(), HASHES)):
        with pytest.raises(ValidationError, match="no other"):
            new_job_document(wrong_job, project=PROJECT, sites=SITES, now=NOW, release=release)


def test_an_evaluation_names_the_number_and_the_hashes_of_its_release() -> None:
    job = evaluation_job()
    made = new_job_document(job, project=PROJECT, sites=SITES, now=NOW, release=HASHES)
    assert parse_document(made.content()) == made
    for wrong, release, word in ((job, None, "no other"), (job.model_copy(update={"number": 0}), HASHES, "the number")):
        with pytest.raises(ValidationError, match=word):
            new_job_document(wrong, project=PROJECT, sites=SITES, now=NOW, release=release)


def _number_as_text(value: dict) -> None:
    value["job"]["training"]["rounds"] = "3"


def _number_as_float(value: dict) -> None:
    value["job"]["training"]["rounds"] = 3.0


def _default_left_out(value: dict) -> None:
    del value["job"]["training"]["seed"]


def _other_time_zone(value: dict) -> None:
    value["created"] = value["created"].replace("Z", "+00:00")


def _unknown_key(value: dict) -> None:
    value["job"]["path"] = "fedward_flare.poc.Popen"


@pytest.mark.parametrize(
    "change", [_number_as_text, _number_as_float, _default_left_out, _other_time_zone, _unknown_key]
)
def test_another_text_of_the_same_job_is_refused(change: Callable[[dict], None]) -> None:
    value = json.loads(document().content())
    change(value)
    with pytest.raises(IdentityError, match="not_canonical"):
        parse_document(canonical.encode(value))
