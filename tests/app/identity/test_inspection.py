from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedward.identity.certificates import fingerprint
from fedward.identity.inspection import inspect
from fedward.settings.read import parse_settings
from fedward.settings.site import SiteSettings
from trust_cases import DAY, NOW, PROJECT, Authority, pem, pem_of, rsa_key

ROOT = Authority()
COORDINATOR = fingerprint(ROOT.leaf("coordinator"))


def hospitals(folder: Path, **changes: Any) -> SiteSettings:
    """Give a site whose identity is in order, but for ``changes``."""
    own = changes.pop("own", ROOT.leaf("north"))
    (folder / "root.pem").write_bytes(pem(changes.pop("root", ROOT.certificate)))
    (folder / "client.crt").write_bytes(pem(own))
    (folder / "client.key").write_bytes(pem_of(rsa_key(changes.pop("key", "north"))))
    (folder / "client.key").chmod(changes.pop("mode", 0o600))
    roster = [
        {"name": name, "organisation": name, "fingerprint": fingerprint(own if name == "north" else ROOT.leaf(name))}
        for name in ("north", "east", "south")
    ]
    document: dict[str, Any] = {
        "name": "north",
        "organisation": "north",
        "data": [{"kind": "dicom", "path": "dicom"}],
        "bounds": changes.pop("bounds", {}),
        "identity": {
            "project": PROJECT,
            "root_certificate": str(folder / "root.pem"),
            "certificate": str(folder / "client.crt"),
            "private_key": str(folder / "client.key"),
            "coordinators": [COORDINATOR],
            "hospitals": roster,
            **changes,
        },
    }
    return parse_settings(document, SiteSettings, where="test")


def codes(site: SiteSettings, **more: Any) -> list[tuple[str, str]]:
    return [(found.level, found.code) for found in inspect(site, now=NOW, **more)]


def test_nothing_is_found_where_all_is_well(tmp_path: Path) -> None:
    assert codes(hospitals(tmp_path)) == []


@pytest.mark.parametrize(
    ("days", "expected"), [(31, []), (30, [("soon", "expires_soon")]), (1, [("soon", "expires_soon")])]
)
def test_a_certificate_is_spoken_of_thirty_days_before_it_ends(days: int, expected: list, tmp_path: Path) -> None:
    assert codes(hospitals(tmp_path, own=ROOT.leaf("north", days=(-10, days)))) == expected


def test_the_sentence_names_the_day(tmp_path: Path) -> None:
    (found,) = inspect(hospitals(tmp_path, own=ROOT.leaf("north", days=(-10, 12))), now=NOW)
    assert f"{NOW + 12 * DAY:%Y-%m-%d}, in 12 days" in found.sentence


def test_an_authority_that_ends_is_spoken_of_too(tmp_path: Path) -> None:
    root = Authority(end=NOW + 20 * DAY)
    site = hospitals(tmp_path, root=root.certificate, own=root.leaf("north"))
    assert ("soon", "expires_soon") in codes(site)


def test_an_expired_certificate_is_wrong(tmp_path: Path) -> None:
    assert codes(hospitals(tmp_path, own=ROOT.leaf("north", days=(-10, -1)))) == [("wrong", "expired_certificate")]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"own": Authority("another").leaf("north")}, "untrusted_certificate"),
        ({"own": ROOT.leaf("east", key=rsa_key("north"))}, "wrong_name"),
        ({"key": "east"}, "unreadable_key"),
        ({"mode": 0o640}, "unsafe_permissions"),
        ({"coordinators": []}, "no_coordinator"),
        ({"coordinators": [f"sha256:{'0' * 64}"]}, "no_coordinator"),
        ({"hospitals": []}, "no_roster"),
        ({"certificate": None}, "unreadable_key"),
        ({"revoked": [fingerprint(ROOT.leaf("x"))], "private_key": "/nowhere/client.key"}, "unreadable_key"),
        ({"bounds": {"min_organisations": 4}}, "too_few_organisations"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], code: str, tmp_path: Path) -> None:
    assert ("wrong", code) in codes(hospitals(tmp_path, **changes))


def test_a_hospital_that_is_not_in_its_own_roster_or_revoked_is_told_so(tmp_path: Path) -> None:
    site = hospitals(tmp_path)
    assert site.identity is not None
    peers = tuple(peer for peer in site.identity.hospitals if peer.name != "north")
    unlisted = site.model_copy(update={"identity": site.identity.model_copy(update={"hospitals": peers})})
    assert ("wrong", "unlisted_signer") in codes(unlisted)
    own = next(peer.fingerprint for peer in site.identity.hospitals if peer.name == "north")
    revoked = site.model_copy(update={"identity": site.identity.model_copy(update={"revoked": (own,)})})
    assert ("wrong", "revoked_signer") in codes(revoked)


def test_a_coordinator_that_is_listed_and_revoked_is_spoken_of(tmp_path: Path) -> None:
    assert codes(hospitals(tmp_path, revoked=[COORDINATOR])) == [("soon", "revoked_signer")]


def test_a_site_without_identity_refuses_every_job(tmp_path: Path) -> None:
    site = hospitals(tmp_path).model_copy(update={"identity": None})
    assert codes(site) == [("wrong", "no_identity")]
