from __future__ import annotations

import base64
import dataclasses
import json
import stat
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from fedward.errors import IdentityError, ReleaseRefused, StoreError
from fedward.identity import canonical
from fedward.identity.certificates import der, fingerprint
from fedward.identity.signing import sign
from fedward.release.package import (
    ReleaseParts,
    Trust,
    model_bytes,
    parameters_of,
    read_parts,
    sign_release,
    verify_release,
    write_release,
)
from release_cases import CERTIFICATE, KEY, MODEL, ROOT, passport, release_identity, release_parts, trust
from trust_cases import DAY, NOW, Authority, rsa_key

PARTS = release_parts()


def refusal(parts: ReleaseParts, against: Trust | None = None) -> str:
    with pytest.raises(ReleaseRefused, match=r"^[a-z_]+$") as caught:
        verify_release(parts, against)
    assert caught.value.detail
    return caught.value.code


def test_a_release_of_the_project_is_verified() -> None:
    release = verify_release(PARTS, trust())
    assert release.passport == passport()
    assert release.signer.subject == "release.trials"
    assert release.signer.fingerprint == fingerprint(CERTIFICATE)
    assert release.signer.is_verified


def test_without_a_root_it_agrees_with_itself_and_says_no_more() -> None:
    release = verify_release(PARTS)
    assert release.passport == passport()
    assert not release.signer.is_verified


def flipped(content: bytes) -> Iterator[bytes]:
    """Give the content with one bit of one byte turned over, for each byte and four of its bits."""
    for place in range(len(content)):
        for bit in (0, 1, 5, 7):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            yield bytes(altered)


@pytest.mark.parametrize("against", [None, trust()], ids=["alone", "against the root"])
@pytest.mark.parametrize(
    ("part", "codes"),
    [
        ("model", {"altered_model"}),
        ("passport", {"altered_passport", "altered_signature", "untrusted_signer"}),
        ("signature", {"altered_signature", "untrusted_signer"}),
    ],
)
def test_no_flipped_byte_is_accepted(part: str, codes: set[str], against: Trust | None) -> None:
    for content in flipped(getattr(PARTS, part)):
        assert refusal(dataclasses.replace(PARTS, **{part: content}), against) in codes


@settings(deadline=None)
@given(st.sampled_from(["model", "passport", "signature"]), st.integers(min_value=0), st.binary(max_size=3))
def test_bytes_put_in_or_cut_off_are_refused(part: str, place: int, more: bytes) -> None:
    content = getattr(PARTS, part)
    place %= len(content) + 1
    altered = content[:place] + more + content[place:] if more else content[:place]
    if altered != content:
        refusal(dataclasses.replace(PARTS, **{part: altered}), trust())


def test_parts_of_two_releases_do_not_mix() -> None:
    other = release_parts(model=model_bytes({"weight": np.ones(2, np.float32)}), number=2)
    for part in ("model", "passport", "signature"):
        refusal(dataclasses.replace(PARTS, **{part: getattr(other, part)}), trust())


def test_a_foreign_roots_release_is_refused() -> None:
    key, certificate = release_identity(Authority("foreign"))
    parts = release_parts(key=key, certificate=certificate)
    assert refusal(parts, trust()) == "untrusted_signer"
    assert not verify_release(parts).signer.is_verified


def test_a_foreign_signature_under_a_true_passport_is_refused() -> None:
    key, certificate = release_identity(Authority("foreign"))
    parts = release_parts(key=key, certificate=certificate)
    assert refusal(dataclasses.replace(PARTS, signature=parts.signature)) == "untrusted_signer"


def test_a_self_made_root_of_the_same_name_is_foreign() -> None:
    foreign = Authority("foreign")
    certificate = foreign.leaf("release.trials")
    parts = release_parts(key=rsa_key("release.trials"), certificate=certificate)
    assert refusal(parts, trust()) == "untrusted_signer"
    assert verify_release(parts, trust(root=foreign.certificate)).signer.is_verified


@pytest.mark.parametrize("who", ["server", "north", "coordinator@fedward.example", "release.trial", "release.trials2"])
def test_another_certificate_of_the_same_root_is_refused(who: str) -> None:
    parts = release_parts(key=rsa_key(who), certificate=ROOT.leaf(who))
    assert refusal(parts, trust()) == "wrong_subject"


def test_the_release_key_of_another_project_is_refused() -> None:
    key, certificate = release_identity(ROOT, project="elsewhere")
    assert refusal(release_parts(key=key, certificate=certificate), trust()) == "wrong_subject"


def test_the_root_itself_signs_no_release() -> None:
    parts = release_parts(key=ROOT.key, certificate=ROOT.certificate)
    assert refusal(parts, trust()) == "untrusted_signer"


def test_a_revoked_release_key_is_refused() -> None:
    assert refusal(PARTS, trust(revoked=(fingerprint(CERTIFICATE),))) == "revoked_signer"


@pytest.mark.parametrize("moment", [NOW - 2 * DAY, NOW + 361 * DAY])
def test_a_certificate_out_of_its_time_installs_nothing(moment: Any) -> None:
    assert refusal(PARTS, trust(now=moment)) == "expired_certificate"
    assert verify_release(PARTS)


def test_an_expired_root_installs_nothing() -> None:
    root = Authority(start=NOW - 30 * DAY, end=NOW - DAY)
    key, certificate = release_identity(root)
    parts = release_parts(key=key, certificate=certificate)
    assert refusal(parts, trust(root=root.certificate)) == "expired_certificate"


def test_a_release_of_another_project_is_refused() -> None:
    assert refusal(release_parts(project="elsewhere"), trust()) == "wrong_project"


def test_a_signature_made_for_a_job_is_none_for_a_release() -> None:
    content = passport().content()
    envelope = json.loads(PARTS.signature)
    envelope["signature"] = base64.b64encode(sign(KEY, purpose="job", content=content)).decode()
    assert refusal(dataclasses.replace(PARTS, signature=canonical.encode(envelope))) == "altered_signature"


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "rsa-pss-sha256"},
        {"algorithm": "none"},
        {"algorithm": None},
        {"signature": ""},
        {"signature": 7},
        {"certificate": base64.b64encode(der(CERTIFICATE)[:-1]).decode()},
        {"certificate": "not base64"},
        {"more": ""},
    ],
    ids=[
        "another algorithm", "algorithm none", "no algorithm", "no signature", "signature of another type",
        "cut certificate", "certificate not base64", "a field more",
    ],
)  # fmt: skip
def test_another_signature_file_is_refused(change: dict[str, Any]) -> None:
    envelope = {**json.loads(PARTS.signature), **change}
    assert refusal(dataclasses.replace(PARTS, signature=canonical.encode(envelope))) == "altered_signature"


def test_base64_has_one_spelling() -> None:
    """The last letter before ``==`` holds four bits that no byte uses: all sixteen letters decode alike."""
    envelope = json.loads(PARTS.signature)
    text = envelope["signature"]
    assert text.endswith("==")
    letters = string.ascii_letters + string.digits + "+/"
    spellings = [text[:-3] + letter + "==" for letter in letters]
    same = [spelling for spelling in spellings if base64.b64decode(spelling) == base64.b64decode(text)]
    assert len(same) == 16
    for spelling in set(same) - {text}:
        parts = dataclasses.replace(PARTS, signature=canonical.encode({**envelope, "signature": spelling}))
        assert refusal(parts) == "altered_signature"


def test_a_passport_names_the_model_and_the_signer_that_it_is_signed_with() -> None:
    for wrong in (passport(model_sha256="f" * 64), passport(signer="sha256:" + "f" * 64)):
        with pytest.raises(ReleaseRefused, match="altered_passport"):
            sign_release(MODEL, wrong, key=KEY, certificate=CERTIFICATE)
    other_key, _ = release_identity(ROOT)
    with pytest.raises(IdentityError, match="bad_signature"):
        sign_release(MODEL, passport(), key=other_key, certificate=CERTIFICATE)


def test_three_files_are_written_and_read_back(tmp_path: Path) -> None:
    write_release(tmp_path / "nodule-1", PARTS)
    assert sorted(path.name for path in (tmp_path / "nodule-1").iterdir()) == [
        "model.safetensors",
        "passport.json",
        "passport.sig",
    ]
    assert read_parts(tmp_path / "nodule-1") == PARTS


@pytest.mark.parametrize(("mode", "file_mode"), [(0o700, 0o600), (0o755, 0o644)])
def test_the_files_are_as_open_as_their_folder(tmp_path: Path, mode: int, file_mode: int) -> None:
    folder = tmp_path / "nodule-1"
    write_release(folder, PARTS, mode=mode)
    assert stat.S_IMODE(folder.stat().st_mode) == mode
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {file_mode}


@pytest.mark.parametrize("name", ["model.safetensors", "passport.json", "passport.sig"])
def test_a_missing_part_is_named(tmp_path: Path, name: str) -> None:
    write_release(tmp_path / "nodule-1", PARTS)
    (tmp_path / "nodule-1" / name).unlink()
    with pytest.raises(ReleaseRefused, match="missing_part") as caught:
        read_parts(tmp_path / "nodule-1")
    assert name in caught.value.detail


def test_where_nothing_can_be_written_nothing_is_half_written(tmp_path: Path) -> None:
    (tmp_path / "releases").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot_write"):
        write_release(tmp_path / "releases" / "nodule-1", PARTS)
    assert [path.name for path in tmp_path.iterdir()] == ["releases"]


def test_parameters_come_back_as_they_were_named() -> None:
    parameters = parameters_of(MODEL)
    assert sorted(parameters) == ["bias", "weight"]
    assert parameters["weight"].tolist() == np.arange(12).reshape(3, 4).tolist()
    assert parameters["weight"].dtype == np.float32


def _typed(name: str) -> bytes:
    return save({"weight": np.zeros(2, np.float16)}).replace(b'"F16"', f'"{name}"'.encode())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", MODEL[:-1], MODEL[:40], b"\xff" * 64, _typed("BF16")])
def test_what_is_no_safetensors_file_is_refused(content: bytes) -> None:
    with pytest.raises(ReleaseRefused, match="altered_model"):
        parameters_of(content)
