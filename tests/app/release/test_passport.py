from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from fedward.errors import ReleaseRefused
from fedward.identity import canonical
from fedward.release.passport import parse_passport
from release_cases import passport

PRIVACY = {"sites": {"east": {"epsilon": 2.5, "delta": 1e-6}, "north": {"epsilon": 8.0, "delta": 1e-5}}}


def test_its_text_gives_the_passport_back() -> None:
    made = passport(stands_on=passport(number=3, privacy=PRIVACY).descent(), privacy=PRIVACY)
    assert parse_passport(made.content()) == made


def test_a_line_names_every_ancestor_the_latest_first() -> None:
    first = passport(number=1)
    second = passport(number=2, privacy=PRIVACY, stands_on=first.descent())
    line = passport(number=3, stands_on=second.descent()).stands_on
    assert [(one.name, one.number, one.privacy) for one in line] == [
        ("lung_nodule", 2, second.privacy),
        ("lung_nodule", 1, None),
    ]
    assert {one.model_sha256 for one in line} == {first.model_sha256}


def test_a_line_promises_each_hospital_the_sum_over_all_its_trainings() -> None:
    other = {"sites": {"north": {"epsilon": 1.5, "delta": 1e-5}, "west": {"epsilon": 3.0, "delta": 1e-6}}}
    line = passport(privacy=PRIVACY, stands_on=passport(privacy=other).descent()).line
    assert line is not None
    assert {site: spent.epsilon for site, spent in line.sites.items()} == {"east": 2.5, "north": 9.5, "west": 3.0}
    assert line.sites["north"].delta == pytest.approx(2e-5)
    assert line.epsilon == 9.5


@pytest.mark.parametrize("privacies", [(None, PRIVACY), (PRIVACY, None), (None, None)])
def test_a_line_with_one_training_that_was_not_private_promises_nothing(privacies: tuple[Any, Any]) -> None:
    own, parents = privacies
    assert passport(privacy=own, stands_on=passport(privacy=parents).descent()).line is None


def test_the_bound_of_the_whole_model_is_that_of_the_weakest_hospital() -> None:
    privacy = passport(privacy=PRIVACY).privacy
    assert privacy is not None
    assert (privacy.epsilon, privacy.delta, privacy.unit) == (8.0, 1e-5, "patient")


def test_it_says_in_plain_words_that_training_was_not_private() -> None:
    assert json.loads(passport().content())["privacy"] is None


@pytest.mark.parametrize(
    "more",
    [
        {"number": 0},
        {"name": "../etc"},
        {"project": "a/b"},
        {"model_sha256": "A" * 64},
        {"job_id": "d" * 31},
        {"participants": ("East Hospital",)},
        {"metrics": {"validation_score": float("nan")}},
        {"metrics": {"Not A Name": 1.0}},
        {"format": "fedward-passport/2"},
        {"signer": "md5:00"},
        {"created": "2031-05-17T12:30:15"},
        {"privacy": {"sites": {}}},
        {"privacy": {"sites": {"north": {"epsilon": -1.0, "delta": 1e-5}}}},
        {"privacy": {"sites": {"north": {"epsilon": 1.0, "delta": 1.0}}}},
        {"path": "weights.pt"},
        {"stands_on": ("nodule-1",)},
        {"gate": None},
        {"gate": {"outcome": "passed", "sites": {"north": "Patient 4711"}}},
    ],
    ids=str,
)
def test_a_passport_that_says_something_else_is_none(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(more))):
        passport(**more)


def altered(content: bytes, pattern: str, replacement: str) -> bytes:
    text, count = re.subn(pattern, replacement, content.decode())
    assert count == 1
    return text.encode()


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r'"rounds":3', '"rounds":3.0'),
        (r'"rounds":3', '"rounds":"3"'),
        (r'"rounds":3', '"rounds": 3'),
        (r'"rounds":3', '"rounds":true'),
        (r'"stands_on":\[\],', ""),
        (r'"format"', '"epoch":1,"format"'),
        (r"250Z", "250+00:00"),
        (r"^\{", '[{"'),
    ],
)
def test_another_text_is_refused(pattern: str, replacement: str) -> None:
    with pytest.raises(ReleaseRefused, match="altered_passport"):
        parse_passport(altered(passport().content(), pattern, replacement))


def test_a_canonical_object_that_is_no_passport_is_refused() -> None:
    with pytest.raises(ReleaseRefused, match="altered_passport"):
        parse_passport(canonical.encode({"name": "nodule"}))
