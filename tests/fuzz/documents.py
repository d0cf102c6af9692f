"""What a coordinator or the hospital wrote: jobs, settings, releases."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import tempfile
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import tomlkit
from hypothesis import strategies as st

from fedward.identity import canonical
from fedward.identity.certificates import fingerprint
from fedward.identity.document import SignedJob, new_job_document, parse_document, verify_job
from fedward.identity.signing import sign
from fedward.inference.load import flat_weights
from fedward.release.package import ReleaseParts, parameters_of, verify_release
from fedward.release.passport import parse_passport
from fedward.settings.job import Job
from fedward.settings.read import parse_settings, read_settings
from fedward.settings.site import Identity, SiteSettings, read_site_settings
from fedward_flare.job_config import SITE_CONFIG, site_config
from fedward_flare.job_folder import check_archive
from fedward_flare.signed import decode_signed_job, encode_signed_job
from fuzz.mutations import VALUES, changed_bytes, changed_value
from fuzz.refusals import expect_refusal
from release_cases import KEY, release_parts, trust
from support import ROOT
from trust_cases import NOW, PROJECT, Authority, pem, training_job


@cache
def coordinator() -> tuple[Identity, bytes, bytes, bytes]:
    """Give a site's trust, the coordinator's certificate, an honest document and the site's archive of it."""
    authority = Authority()
    key = KEY
    certificate = authority.leaf("coordinator", key=key)
    folder = Path(tempfile.mkdtemp(prefix="fedward-fuzz-"))
    root = folder / "root.pem"
    root.write_bytes(pem(authority.certificate))
    listed = Identity(project=PROJECT, root_certificate=root, coordinators=(fingerprint(certificate),))
    document = new_job_document(training_job(), project=PROJECT, sites=("east", "north"), now=NOW)
    return listed, pem(certificate), document.content(), archive(document.content(), pem(certificate))


def archive(document: bytes, certificate: bytes) -> bytes:
    text = encode_signed_job(SignedJob(document, b"signature", certificate))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for folder in ("", "config/"):
            made.writestr(f"{folder}.__nvfl_sig.json", "{}")
            made.writestr(f"{folder}.__nvfl_submitter.crt", "{}")
        made.writestr(f"config/{SITE_CONFIG}", json.dumps(site_config("train", text)))
    return content.getvalue()


def documents() -> st.SearchStrategy[Any]:
    _, certificate, document, packed = coordinator()
    signed = SignedJob(document, b"signature", certificate)
    return st.one_of(
        st.tuples(st.just("document"), changed_bytes(document)),
        st.tuples(st.just("signed"), changed_value(json.loads(document))),
        st.tuples(st.just("text"), changed_bytes(encode_signed_job(signed).encode())),
        st.tuples(st.just("nested"), changed_bytes(b'{"document":"","signature":"","certificate":""}')),
        st.tuples(st.just("archive"), changed_bytes(packed)),
        st.tuples(st.just("certificate"), changed_bytes(certificate)),
    )


def read_document(given: tuple[str, Any]) -> None:
    listed, certificate, document, _ = coordinator()
    kind, content = given
    match kind:
        case "document":
            expect_refusal(lambda: parse_document(content))
        case "signed":
            expect_refusal(lambda: _verify(listed, certificate, canonical.encode(content)))
        case "text":
            expect_refusal(lambda: decode_signed_job(content.decode("latin-1")))
        case "nested":
            text = base64.urlsafe_b64encode(content).decode()
            expect_refusal(lambda: decode_signed_job(text))
        case "archive":
            expect_refusal(lambda: check_archive(content))
        case "certificate":
            expect_refusal(lambda: verify_job(SignedJob(document, b"", content), listed, now=NOW))


def _verify(listed: Identity, certificate: bytes, document: bytes) -> None:
    """Sign what no coordinator would, as a malicious one can."""
    signature = sign(KEY, purpose="job", content=document)
    verify_job(SignedJob(document, signature, certificate), listed, now=NOW)


SITE = """
name = "north"
organisation = "north"
[[data]]
kind = "nifti"
path = "."
images = "images"
labels = "labels"
modality = "CT"
classes = { nodule = 1 }
[bounds]
networks = ["unet3d"]
min_sites = 3
[privacy]
epsilon = 4.0
share_metrics = ["validation_score"]
[split]
validation = 0.2
[[identity.hospitals]]
name = "east"
organisation = "east"
fingerprint = "sha256:00"
[compute]
device = "cpu"
"""


def site_files() -> st.SearchStrategy[Any]:
    template = (ROOT / "provision" / "site.toml").read_bytes()
    tables = changed_value(tomllib.loads(SITE), VALUES)
    job = (ROOT / "jobs" / "lung_nodule_private.toml").read_bytes()
    return st.one_of(
        st.tuples(st.just("bytes"), st.one_of(changed_bytes(SITE.encode()), changed_bytes(template))),
        st.tuples(st.just("tables"), tables),
        st.tuples(st.just("job"), changed_bytes(job)),
        st.tuples(st.just("job tables"), changed_value(json.loads(json.dumps(tomllib.loads(job.decode()))))),
    )


def read_site_file(given: tuple[str, Any]) -> None:
    kind, content = given
    match kind:
        case "bytes":
            expect_refusal(lambda: read_site_settings(_written(content, "site.toml")))
        case "tables":
            expect_refusal(lambda: parse_settings(content, SiteSettings, where="fuzz"))
            expect_refusal(lambda: read_site_settings(_written(_toml(content), "site.toml")))
        case "job":
            expect_refusal(lambda: read_settings(_written(content, "job.toml"), Job))  # type: ignore[arg-type]
        case "job tables":
            expect_refusal(lambda: parse_settings(content, Job, where="fuzz"))  # type: ignore[arg-type]


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fedward-fuzz-"))


def _written(content: bytes, name: str) -> Path:
    path = _folder() / name
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def _toml(tables: Any) -> bytes:
    try:
        return tomlkit.dumps(tables).encode()
    except Exception:  # noqa: BLE001  what TOML cannot say is no site file
        return b""


@cache
def honest_release() -> ReleaseParts:
    return release_parts()


def releases() -> st.SearchStrategy[Any]:
    parts = honest_release()
    return st.one_of(
        st.tuples(st.just("passport"), changed_bytes(parts.passport)),
        st.tuples(st.just("signed"), changed_value(json.loads(parts.passport))),
        st.tuples(st.just("signature"), changed_bytes(parts.signature)),
        st.tuples(st.just("envelope"), changed_value(json.loads(parts.signature))),
        st.tuples(st.just("model"), changed_bytes(parts.model)),
    )


def read_release(given: tuple[str, Any]) -> None:
    parts, (kind, content) = honest_release(), given
    match kind:
        case "passport":
            expect_refusal(lambda: parse_passport(content))
        case "signed":
            expect_refusal(lambda: _verify_signed(canonical.encode(content)))
        case "signature":
            expect_refusal(lambda: verify_release(dataclasses.replace(parts, signature=content), trust()))
        case "envelope":
            expect_refusal(
                lambda: verify_release(dataclasses.replace(parts, signature=canonical.encode(content)), trust())
            )
        case "model":
            changed = dataclasses.replace(parts, model=content)
            expect_refusal(lambda: parameters_of(content))
            expect_refusal(lambda: flat_weights(changed, parse_passport(parts.passport)))


def _verify_signed(passport: bytes) -> None:
    signature = canonical.decode(honest_release().signature)
    signature["signature"] = base64.b64encode(sign(KEY, purpose="release", content=passport)).decode()
    changed = ReleaseParts(honest_release().model, passport, canonical.encode(signature))
    verify_release(changed, trust())
