from __future__ import annotations

from typing import Any

import pytest

from evaluation_cases import evaluation_job
from fedward.errors import JobRefused, SettingsError
from fedward.settings.admission import admit, organisations_at_least, refusals
from fedward.settings.job import EvaluationJob, Exchange, PublishJob, Sites
from fedward.settings.read import parse_settings
from fedward.settings.site import SiteSettings
from trust_cases import inference_job, training_job

SITES = ("east", "north", "south")
OPEN: dict[str, Any] = {
    "bounds": {
        "exchange_modes": ["plain"],
        "min_sites": 2,
        "min_organisations": 1,
        "max_rounds": 3,
        "max_steps": 6,
        "max_patch_voxels": 4096,
        "max_update_norm": 10.0,
    },
    "privacy": {"allow_non_private": True},
}


def site(**more: Any) -> SiteSettings:
    document = {
        "name": "north",
        "organisation": "north",
        "data": [{"kind": "dicom", "path": "dicom"}],
        "bounds": {**OPEN["bounds"], **more.pop("bounds", {})},
        "privacy": OPEN["privacy"],
        **more,
    }
    return parse_settings(document, SiteSettings, where="test")


def codes(job: Any, at: SiteSettings, *, sites: tuple[str, ...] = SITES) -> list[str]:
    return [refusal.code for refusal in refusals(job, sites=sites, site=at)]


def test_a_job_at_every_bound_is_admitted() -> None:
    assert codes(training_job(), site()) == []
    admit(training_job(), sites=SITES, site=site())


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        ({"bounds": {"kinds": ["infer"]}}, "kind_not_allowed", "kinds allows infer; the job asks for train"),
        ({"bounds": {"networks": ["densenet"]}}, "network_not_allowed", "networks allows densenet"),
        ({"bounds": {"exchange_modes": []}}, "exchange_mode_not_allowed", "allows nothing; the job asks for plain"),
        ({"privacy": {"allow_non_private": False}}, "non_private_not_allowed", "allow_non_private"),
        ({"bounds": {"min_sites": 3}}, "too_few_sites", "min_sites is 3"),
        ({"bounds": {"max_rounds": 2}}, "too_many_rounds", "max_rounds is 2; the job asks for 3"),
        ({"bounds": {"max_steps": 5}}, "too_many_steps", "max_steps is 5; the job asks for 6"),
        ({"bounds": {"max_patch_voxels": 4095}}, "patch_too_large", "max_patch_voxels is 4095; the job asks for 4096"),
        ({"bounds": {"max_update_norm": 9.9}}, "norm_bound_too_large", "max_update_norm is 9.9; the job asks for 10"),
        ({"bounds": {"max_hours_valid": 23}}, "valid_too_long", "max_hours_valid is 23; the job asks for 24"),
        ({"name": "west"}, "not_invited", "not west"),
    ],
)
def test_each_bound_refuses_by_name(more: dict[str, Any], code: str, word: str) -> None:
    (refusal,) = refusals(training_job(), sites=SITES, site=site(**more))
    assert refusal.code == code
    assert word in refusal.detail
    with pytest.raises(JobRefused, match=code):
        admit(training_job(), sites=SITES, site=site(**more))


def test_all_refusals_are_given_together() -> None:
    at = site(name="west", bounds={"exchange_modes": [], "max_rounds": 1, "max_steps": 1}, privacy={})
    assert codes(training_job(), at) == [
        "not_invited",
        "exchange_mode_not_allowed",
        "too_many_rounds",
        "too_many_steps",
        "non_private_not_allowed",
    ]


def test_a_site_file_that_says_nothing_takes_part_in_no_plain_training() -> None:
    document = {"name": "north", "organisation": "north", "data": [{"kind": "dicom", "path": "dicom"}]}
    silent = parse_settings(document, SiteSettings, where="test")
    found = codes(training_job(sites={"minimum": 3}), silent)
    assert found == ["exchange_mode_not_allowed", "too_few_organisations", "non_private_not_allowed"]


def test_the_bounds_of_training_do_not_hold_for_the_other_kinds() -> None:
    at = site(bounds={"exchange_modes": [], "min_sites": 9, "max_rounds": 1}, privacy={})
    publish = PublishJob(kind="publish", name="publish", sites=Sites(minimum=1))
    assert codes(inference_job(), at) == codes(publish, at) == []
    assert codes(inference_job(), site(bounds={"kinds": ["train"]})) == ["kind_not_allowed"]


@pytest.mark.parametrize(
    ("bounds", "privacy", "code"),
    [
        ({}, {}, None),
        ({"kinds": ["train", "infer"]}, {}, "kind_not_allowed"),
        ({"exchange_modes": ["secure-sum"]}, {}, "exchange_mode_not_allowed"),
        ({"min_sites": 3}, {}, "too_few_sites"),
        ({}, {"max_metric_releases": 0}, "too_many_metric_releases"),
        ({"networks": [], "max_rounds": 1, "max_patch_voxels": 1}, {"allow_non_private": False}, None),
    ],
)
def test_an_evaluation_is_held_against_what_concerns_it(
    bounds: dict[str, Any], privacy: dict[str, Any], code: str | None
) -> None:
    assert codes(evaluation_job(), site(bounds=bounds, privacy=privacy)) == ([code] if code else [])


@pytest.mark.parametrize(("shares", "expected"), [(True, []), (False, ["local_models_not_allowed"])])
def test_an_evaluation_that_takes_own_models_needs_the_site_files_leave(shares: bool, expected: list[str]) -> None:
    privacy = {"allow_non_private": True, "share_local_model": shares}
    job = evaluation_job().model_copy(update={"local_models": True})
    assert codes(job, site(privacy=privacy)) == expected
    assert codes(evaluation_job(), site(privacy=privacy)) == []


def test_no_site_file_lets_its_own_model_go_that_allows_nothing_without_privacy() -> None:
    with pytest.raises(SettingsError, match="invalid_settings") as caught:
        site(privacy={"share_local_model": True})
    assert "share_local_model needs allow_non_private = true" in caught.value.detail


@pytest.mark.parametrize("mode", ["secure-sum", "ckks"])
def test_own_models_travel_in_plain_mode_alone(mode: str) -> None:
    with pytest.raises(ValueError, match=r"local_models must be false unless exchange\.mode is plain"):
        EvaluationJob.model_validate(evaluation_job(mode=mode).model_dump() | {"local_models": True})


def test_the_smallest_bound_of_the_job_counts_not_who_is_asked() -> None:
    """Many may be asked while the job averages over as few as its own minimum."""
    job = training_job(sites={"minimum": 1})
    assert codes(job, site(), sites=(*"abcdef", "north")) == ["too_few_sites"]


def test_a_norm_that_passes_the_schema_is_held_against_the_site() -> None:
    job = training_job().model_copy(update={"exchange": Exchange(mode="plain", max_update_norm=1e6)})
    assert codes(job, site()) == ["norm_bound_too_large"]


def roster(*members: tuple[str, str], revoked: tuple[str, ...] = ()) -> dict[str, Any]:
    def print_of(name: str) -> str:
        return f"sha256:{name.encode().hex():0>64}"

    hospitals = [{"name": name, "organisation": owner, "fingerprint": print_of(name)} for name, owner in members]
    return {
        "project": "trials",
        "root_certificate": "root.pem",
        "hospitals": hospitals,
        "revoked": [print_of(name) for name in revoked],
    }


def certain(minimum: int, *members: tuple[str, str], sites: tuple[str, ...] = SITES, **more: Any) -> int:
    return organisations_at_least(sites, minimum, site=site(identity=roster(*members, **more)))


def test_one_owner_of_several_names_is_one_organisation() -> None:
    assert certain(3, ("north", "north"), ("east", "trust"), ("south", "trust")) == 2
    assert certain(2, ("north", "north"), ("east", "trust"), ("south", "trust")) == 2
    assert certain(3, ("north", "north"), ("east", "east"), ("south", "south")) == 3


def test_the_sum_with_the_fewest_organisations_counts_not_the_one_with_the_most() -> None:
    members = (("north", "north"), ("east", "trust"), ("south", "trust"), ("west", "west"))
    asked = (*SITES, "west")
    assert certain(3, *members, sites=asked) == 2
    assert certain(4, *members, sites=asked) == 3


def test_who_is_not_in_the_roster_or_revoked_counts_for_nothing() -> None:
    members = (("north", "north"), ("east", "east"), ("south", "south"))
    assert certain(3, *members[:2]) == 2
    assert certain(2, *members[:2]) == 1
    assert certain(3, *members, revoked=("south",)) == 2
    assert certain(3) == 1, "this hospital is sure of itself alone"


def test_too_few_organisations_are_refused_in_either_mode() -> None:
    three = roster(("north", "north"), ("east", "trust"), ("south", "trust"))
    plain = site(bounds={"min_organisations": 3}, identity=three)
    assert codes(training_job(), plain) == ["too_few_organisations"]
    summed = training_job(sites={"minimum": 3}, exchange={"mode": "secure-sum", "max_update_norm": 10.0})
    encrypted = site(bounds={"exchange_modes": ["secure-sum"], "min_sites": 3}, identity=three)
    assert codes(summed, encrypted) == ["too_few_organisations"], "an encrypted sum counts min_sites in organisations"


def test_only_a_kind_that_is_taken_can_wait_for_a_person() -> None:
    assert site(bounds={"needs_approval": ["train"]}).bounds.needs_approval == ("train",)
    with pytest.raises(SettingsError, match="invalid_settings") as caught:
        site(bounds={"needs_approval": ["trian"]})
    assert "trian" in caught.value.detail
