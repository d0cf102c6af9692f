"""A training job that starts from a release: which start a hospital takes, and which line of descent it believes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedward.errors import JobRefused, ReleaseRefused
from fedward.forgetting import forget
from fedward.hospital import Hospital, RoundTask
from fedward.identity.document import JobDocument
from fedward.inference.load import facts_of
from fedward.models.initial import initial_weights
from fedward.release.package import ReleaseParts, verify_release
from fedward.release.passport import parse_passport
from fedward.settings.job import StartFrom, TrainingJob, UNet3D
from hospital_cases import Site, Trained, document_of, make_site, signed
from tiny_federation import training_job

JOB = training_job(rounds=2, minimum=2)
WARM = JOB.model_copy(update={"start_from": StartFrom(name="ball", number=1)})
FIRST = initial_weights(JOB)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def trained(hospital: Hospital, weights: np.ndarray, document: JobDocument | None = None, number: int = 1) -> Trained:
    document = document or document_of(JOB)
    hospital.accept(signed(document))
    return Trained(document, (hospital.train_round(RoundTask(document, number, weights)),), weights)


def installed(hospital: Hospital) -> ReleaseParts:
    parts = trained(hospital, FIRST).release()
    hospital.install_parts(parts)
    return parts


def test_the_release_that_is_installed_here_is_taken_as_the_start(site: Site) -> None:
    hospital = site.open()
    parts = installed(hospital)
    warm = trained(hospital, FIRST, document_of(WARM, parts))
    parent = parse_passport(parts.passport)
    release = warm.release(2, parent=parent)
    hospital.install_parts(release)
    assert parse_passport(release.passport).stands_on == parent.descent()


def test_a_server_that_starts_from_something_else_is_refused_before_anything_is_charged(site: Site) -> None:
    hospital = site.open()
    document = document_of(WARM, installed(hospital))
    with pytest.raises(JobRefused, match="wrong_start"):
        trained(hospital, FIRST + np.float32(1e-3), document)
    assert not hospital.ledger().entries().jobs[document.id].rounds


def test_a_release_that_is_not_here_is_no_start(site: Site) -> None:
    hospital = site.open()
    parts = trained(hospital, FIRST).release()
    with pytest.raises(JobRefused, match="start_not_installed"):
        trained(hospital, FIRST, document_of(WARM, parts))


def test_other_files_under_the_same_name_and_number_are_no_start(site: Site) -> None:
    hospital = site.open()
    installed(hospital)
    other = trained(hospital, FIRST + np.float32(0.5)).release()
    with pytest.raises(JobRefused, match="wrong_start"):
        trained(hospital, FIRST, document_of(WARM, other))


def test_a_release_of_another_network_is_no_start(site: Site) -> None:
    hospital = site.open()
    wider = TrainingJob.model_validate(WARM.model_copy(update={"network": UNet3D(name="unet3d", channels=(4, 16))}))
    with pytest.raises(JobRefused, match="wrong_start"):
        trained(hospital, initial_weights(wider), document_of(wider, installed(hospital)))


def test_a_hospital_that_comes_in_a_later_round_knows_the_line_too(site: Site) -> None:
    hospital = site.open()
    parts = installed(hospital)
    late = trained(hospital, FIRST + np.float32(0.1), document_of(WARM, parts), number=2)
    hospital.install_parts(late.release(2, parent=parse_passport(parts.passport)))


def test_a_passport_that_hides_what_the_model_stands_on_is_not_installed(site: Site) -> None:
    hospital = site.open()
    installed(hospital)
    # The job names no start, and yet the server began with the installed release's weights.
    with pytest.raises(ReleaseRefused, match="wrong_descent"):
        hospital.install_parts(trained(hospital, FIRST).release(2))


def test_a_passport_with_an_invented_ancestor_is_not_installed(site: Site) -> None:
    hospital = site.open()
    parts = installed(hospital)
    cold = trained(hospital, FIRST + np.float32(0.1), document_of(WARM, parts), number=2)
    line = parse_passport(parts.passport).model_copy(update={"rounds": 99})
    with pytest.raises(ReleaseRefused, match="wrong_descent"):
        cold.release(2, parent=line)


def test_a_patient_of_an_ancestor_is_told_of_every_release_that_descends_from_it(site: Site) -> None:
    hospital = site.open()
    parts = installed(hospital)
    (first,) = hospital.ledger().entries().jobs.values()
    names = {path.name.removesuffix(".nii.gz") for path in (site.folder / "images").iterdir()}
    patient = min(name for name in names if first.patients.get(hospital.ledger().pseudonym(name)) == "train")
    for kind in ("images", "labels"):
        (site.folder / kind / f"{patient}.nii.gz").unlink()
    warm = trained(hospital, FIRST, document_of(WARM, parts))
    hospital.install_parts(warm.release(2, parent=parse_passport(parts.passport)))
    forgotten = forget(hospital, patient)
    assert warm.document.id not in forgotten.jobs, "the patient was gone before the second training"
    assert set(forgotten.releases) == {"ball-1", "ball-2"}


def test_a_report_calls_a_private_model_with_an_open_ancestor_not_private(site: Site) -> None:
    hospital = site.open()
    parts = installed(hospital)
    warm = trained(hospital, FIRST, document_of(WARM, parts)).release(2, parent=parse_passport(parts.passport))
    release = verify_release(warm)
    own = {"sites": {"north": {"epsilon": 2.0, "delta": 1e-5}}}
    private = type(release.passport).model_validate({**release.passport.model_dump(), "privacy": own})
    facts = facts_of(type(release)(release.parts, private, release.signer))
    assert (facts.private, facts.epsilon, facts.stands_on) == (False, None, ("ball-1",))
