"""The site file that a hospital starts from is whole and refuses what it does not know."""

from __future__ import annotations

from fedward.settings.admission import refusals
from fedward.settings.job import TrainingJob
from fedward.settings.read import read_settings
from fedward.settings.site import SiteSettings, read_site_settings
from support import ROOT

TEMPLATE = ROOT / "provision" / "site.toml"


def test_the_template_names_every_setting_there_is() -> None:
    site = read_site_settings(TEMPLATE)
    for section in ("bounds", "privacy", "split", "compute", "models", "inference", "identity"):
        value = getattr(site, section)
        assert value.model_fields_set == set(type(value).model_fields), section
    assert site.model_fields_set == set(SiteSettings.model_fields)


def test_the_template_lets_no_training_without_privacy_happen_before_a_person_says_so() -> None:
    job = read_settings(ROOT / "jobs" / "lung_nodule_segmentation.toml", TrainingJob)
    codes = {refusal.code for refusal in refusals(job, sites=("my_hospital",), site=read_site_settings(TEMPLATE))}
    assert codes == {"non_private_not_allowed", "too_few_organisations"}
