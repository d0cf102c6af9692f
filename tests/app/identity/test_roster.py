from __future__ import annotations

from typing import Any

import pytest

from fedward.errors import IdentityError
from fedward.identity.certificates import fingerprint
from fedward.identity.roster import Member, Roster, Signer, verify_by
from trust_cases import DAY, NOW, Authority, der, pem, rsa_key

ROOT = Authority()
NORTH = ROOT.leaf("north")
SERVER = ROOT.leaf("server", role="server")
QUIET_SERVER = ROOT.leaf("quiet")
LEAD = ROOT.leaf("lead", role="lead")


def line(certificate: Any, name: str, role: Any = "hospital") -> Member:
    return Member(name, f"org-{name}", fingerprint(certificate), role)


ROSTER = Roster(
    ROOT.certificate,
    (line(NORTH, "north"), line(SERVER, "server", "server"), line(QUIET_SERVER, "quiet", "server")),
)


def accept(certificate: Any, name: str = "north", roster: Roster = ROSTER, now: Any = NOW) -> Member:
    return roster.accept(pem(certificate), name=name, role="hospital", now=now)


def test_a_listed_hospital_is_accepted_in_either_encoding() -> None:
    assert accept(NORTH).organisation == "org-north"
    assert ROSTER.accept(der(NORTH), name="north", role="hospital", now=NOW) == accept(NORTH)


def test_a_hospital_may_be_certified_as_a_client() -> None:
    client = ROOT.leaf("north", role="client")
    assert accept(client, roster=Roster(ROOT.certificate, (line(client, "north"),))).name == "north"


@pytest.mark.parametrize(
    ("certificate", "name", "code"),
    [
        (Authority("foreign").leaf("north"), "north", "untrusted_certificate"),
        (ROOT.certificate, "north", "untrusted_certificate"),
        (ROOT.leaf("north", days=(-10, -1)), "north", "expired_certificate"),
        (ROOT.leaf("north"), "north", "unlisted_signer"),
        (ROOT.leaf("west"), "west", "unlisted_signer"),
        (NORTH, "south", "wrong_name"),
        (SERVER, "server", "wrong_role"),
        (QUIET_SERVER, "quiet", "wrong_role"),
        (LEAD, "lead", "wrong_role"),
    ],
    ids=["foreign", "root", "expired", "second", "unlisted", "claims", "server", "silent server", "administrator"],
)
def test_any_other_certificate_is_refused(certificate: Any, name: str, code: str) -> None:
    with pytest.raises(IdentityError, match=f"^{code}$"):
        accept(certificate, name)


def test_a_certificate_listed_under_another_name_is_refused() -> None:
    with pytest.raises(IdentityError, match="wrong_name"):
        accept(NORTH, "south", roster=Roster(ROOT.certificate, (line(NORTH, "south"),)))


def test_a_revoked_member_is_refused_as_such() -> None:
    revoked = Roster(ROOT.certificate, ROSTER.members, frozenset({fingerprint(NORTH)}))
    with pytest.raises(IdentityError, match="revoked_signer"):
        accept(NORTH, roster=revoked)


def test_a_member_is_accepted_only_while_its_certificate_is_valid() -> None:
    with pytest.raises(IdentityError, match="expired_certificate"):
        accept(NORTH, now=NOW + 101 * DAY)


@pytest.mark.parametrize(
    "members", [(line(NORTH, "north"), line(SERVER, "north")), (line(NORTH, "a"), line(NORTH, "b"))]
)
def test_no_two_lines_share_a_name_or_a_fingerprint(members: tuple[Member, Member]) -> None:
    with pytest.raises(ValueError, match="two members"):
        Roster(ROOT.certificate, members)


def test_what_a_signer_signs_its_certificate_verifies_for_that_purpose_alone() -> None:
    signer = Signer("north", rsa_key("north"), pem(NORTH))
    signature = signer.sign(b"content", purpose="test")
    verify_by(signer.certificate, signature, purpose="test", content=b"content")
    for purpose, content in (("other", b"content"), ("test", b"Content")):
        with pytest.raises(IdentityError, match="bad_signature"):
            verify_by(signer.certificate, signature, purpose=purpose, content=content)


def test_a_signers_key_is_not_printed() -> None:
    assert "RSAPrivateKey" not in repr(Signer("north", rsa_key("north"), pem(NORTH)))
