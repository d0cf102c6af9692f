"""The hospitals' own models on everybody's patients: when this hospital's leaves, and what is taken of the others'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation_cases import (
    TRAINERS,
    evaluation_job,
    forget_who_trained,
    put_weights,
)
from fedward import site_counts, site_models
from fedward.errors import FedwardError, IdentityError, JobRefused, Stopped, StoreError, UpdateRefused
from fedward.evaluation.kept_alone import keep_alone
from fedward.evaluation.sheet import sheet_of
from fedward.federation.consent import NO_MODELS, Consent, OwnModels, Weights, hash_model, read_consents
from fedward.forgetting import forget
from fedward.hospital import Hospital
from fedward.identity.document import JobDocument
from fedward.models.initial import initial_weights
from fedward.privacy.head import Head
from fedward.privacy.mechanisms import Gaussian, Unprotected
from fedward.privacy.sealed import Answer
from fedward.settings.job import EvaluatedTask, EvaluationJob, TrainingJob
from fedward.site_counts import MODEL_ROUND, ONLY_ROUND
from fedward.site_evaluation import PAGES
from hospital_cases import Site
from own_model_cases import (
    EASTS,
    JOB,
    MATRIX,
    OWN,
    RELEASED,
    giving_site,
    numbers_of,
    opened,
    yes_of,
)
from tiny_federation import classifying, multitasking


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return giving_site(tmp_path)


def test_a_model_leaves_after_all_have_signed_and_its_patients_are_charged_without_end(site: Site) -> None:
    hospital, document = opened(site)
    own = hospital.agree_to_give(document)
    assert own.model_sha256 == hash_model(OWN)
    assert not hospital.ledger().entries().jobs, "to agree costs nobody anything"
    given = hospital.give_model(document, [yes_of(document), own])
    assert given is not None
    np.testing.assert_array_equal(given.weights, OWN)
    assert given.head == hospital.ledger().head()
    (job,) = hospital.ledger().entries().jobs.values()
    assert job.plan == {"test": (Gaussian(2.0, 1),), "train": (Unprotected(),)}
    assert set(job.patients.values()) == {"test", "train"}
    assert set(job.rounds) == {MODEL_ROUND}
    assert job.rounds[MODEL_ROUND].spend == {"train": (Unprotected(),)}
    assert job.rounds[MODEL_ROUND].is_sent
    trained = {name for name, group in job.patients.items() if group == "train"}
    assert trained == {hospital.ledger().pseudonym(key) for key in TRAINERS}, "who trained it, not who is here today"
    again = hospital.give_model(document, [own, yes_of(document)])
    assert again is not None
    np.testing.assert_array_equal(again.weights, OWN)
    assert len(hospital.ledger().entries().jobs[document.id].rounds) == 1


def test_every_model_is_tried_on_the_held_out_patients_and_stands_on_the_hospitals_page(site: Site) -> None:
    hospital, document = opened(site)
    consents = (yes_of(document), hospital.agree_to_give(document))
    given = hospital.give_model(document, consents)
    assert given is not None
    counted = hospital.evaluate_release(document, brought=OwnModels(consents, {"north": given.weights, "east": EASTS}))
    assert counted.rows == {}, "exact counts leave only where the site file shares them"
    found = numbers_of(site)
    assert found["is_local_gone"]
    assert set(found["models"]) == {"release", "local", "of east"}
    (folder,) = (site.folder / "state" / PAGES).iterdir()
    text = (folder / "evaluation.html").read_text()
    assert "the own model of east" in text
    assert "This hospital&#39;s own model went to the other hospitals" in text
    job = hospital.ledger().entries().jobs[document.id]
    assert job.rounds[ONLY_ROUND].spend == {"test": (Gaussian(2.0, 1),)}
    assert not job.is_open


def test_the_page_says_that_the_own_model_left_though_the_server_does_not_bring_it_back(site: Site) -> None:
    hospital, document = opened(site)
    consents = (yes_of(document), hospital.agree_to_give(document))
    hospital.give_model(document, consents)
    hospital.evaluate_release(document, brought=OwnModels(consents, {"east": EASTS}))
    assert numbers_of(site)["is_local_gone"]


def test_the_page_says_that_the_own_model_stayed_though_the_server_names_it(site: Site) -> None:
    hospital, document = opened(site)
    consents = (yes_of(document), hospital.agree_to_give(document))
    hospital.evaluate_release(document, brought=OwnModels(consents, {"north": OWN}))
    assert not numbers_of(site)["is_local_gone"]


def test_where_exact_counts_are_shared_those_of_every_model_leave(site: Site) -> None:
    site.edit(lambda text: text.replace('"validation_cases"]', '"validation_cases", "evaluation"]'))
    hospital, document = opened(site)
    consents = (yes_of(document, RELEASED), hospital.agree_to_give(document))
    counted = hospital.evaluate_release(document, brought=OwnModels(consents, {"east": RELEASED}))
    assert set(counted.rows) == {"release", "local", "of east"}
    ours, easts = (sheet_of("lesions").parts(counted.rows[name]) for name in ("release", "of east"))
    for block in set(ours) - {"seconds"}:
        np.testing.assert_array_equal(ours[block], easts[block], "east's own model is the release here")


def test_a_hospital_without_a_model_of_its_own_gives_none_and_charges_nobody(site: Site) -> None:
    hospital, document = opened(site, own=None)
    own = hospital.agree_to_give(document)
    assert own.model_sha256 is None
    consents = (yes_of(document), own)
    assert hospital.give_model(document, consents) is None
    assert not hospital.ledger().entries().jobs
    hospital.evaluate_release(document, brought=OwnModels(consents, {"east": EASTS}))
    job = hospital.ledger().entries().jobs[document.id]
    assert job.plan == {"test": (Gaussian(2.0, 1),)}
    assert not numbers_of(site)["is_local_gone"]


Forged = Callable[[JobDocument, Consent], list[Consent]]


@pytest.mark.parametrize(
    ("shown", "kind", "code"),
    [
        (lambda _, own: [own], JobRefused, "not_all_agreed"),
        (lambda job, _: [yes_of(job)], JobRefused, "not_all_agreed"),
        (lambda _, own: [own, own], JobRefused, "not_all_agreed"),
        (lambda job, own: [own, yes_of(job), yes_of(job, name="west")], JobRefused, "not_all_agreed"),
        (lambda job, own: [own, yes_of(job, by="north")], IdentityError, "wrong_name"),
        (lambda job, own: [own, yes_of(job, by="west")], IdentityError, "unlisted_signer"),
        (
            lambda job, own: [own, yes_of(job.model_copy(update={"id": "0" * 32}))],
            IdentityError,
            "bad_signature",
        ),
        (
            lambda job, own: [own, yes_of(job).model_copy(update={"model_sha256": "0" * 64})],
            IdentityError,
            "bad_signature",
        ),
        (lambda _, __: [], JobRefused, "not_all_agreed"),
    ],
)
def test_no_model_leaves_unless_every_hospital_has_signed_for_this_job(
    site: Site, shown: Forged, kind: type[FedwardError], code: str
) -> None:
    hospital, document = opened(site)
    own = hospital.agree_to_give(document)
    with pytest.raises(kind, match=code):
        hospital.give_model(document, shown(document, own))
    assert not hospital.ledger().entries().jobs


def test_a_job_that_takes_own_models_is_refused_where_the_site_file_does_not_allow_it(site: Site) -> None:
    site.edit(lambda text: text.replace("share_local_model = true", "share_local_model = false"))
    with pytest.raises(JobRefused, match="local_models_not_allowed"):
        opened(site)


def test_a_leave_that_is_withdrawn_during_the_job_keeps_the_model(site: Site) -> None:
    hospital, document = opened(site)
    consents = [yes_of(document), hospital.agree_to_give(document)]
    site.edit(lambda text: text.replace("share_local_model = true", "share_local_model = false"))
    for task in (
        lambda: hospital.agree_to_give(document),
        lambda: hospital.give_model(document, consents),
        lambda: hospital.evaluate_release(document, brought=OwnModels(tuple(consents), {"east": EASTS})),
    ):
        with pytest.raises(JobRefused, match="local_models_not_allowed"):
            task()
    assert not hospital.ledger().entries().jobs


def test_a_job_that_asks_for_no_models_gets_none_and_brings_none(site: Site) -> None:
    hospital, document = opened(site, evaluation_job())
    yes = yes_of(document)
    for task in (lambda: hospital.agree_to_give(document), lambda: hospital.give_model(document, [yes])):
        with pytest.raises(JobRefused, match="local_models_not_allowed"):
            task()
    for brought in (OwnModels((yes,)), OwnModels((), {"east": EASTS})):
        with pytest.raises(JobRefused, match="foreign_model"):
            hospital.evaluate_release(document, brought=brought)


def test_another_own_model_than_the_agreed_one_does_not_leave(site: Site) -> None:
    hospital, document = opened(site)
    consents = [yes_of(document), hospital.agree_to_give(document)]
    keep_alone(hospital.site.state, JOB, RELEASED, patient_keys=TRAINERS)
    with pytest.raises(JobRefused, match="model_changed"):
        hospital.give_model(document, consents)


def test_a_model_that_is_trained_again_while_it_is_given_does_not_leave(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital, document = opened(site)
    consents = [yes_of(document), hospital.agree_to_give(document)]

    def read_and_train_again(*args: Any, **how: Any) -> Any:
        found = read_consents(*args, **how)
        keep_alone(hospital.site.state, JOB, RELEASED, patient_keys=TRAINERS)
        return found

    monkeypatch.setattr(site_models, "read_consents", read_and_train_again)
    given = hospital.give_model(document, consents)
    assert given is not None
    np.testing.assert_array_equal(given.weights, OWN)
    assert hospital.ledger().entries().jobs[document.id].rounds[MODEL_ROUND].model_sha256 == hash_model(OWN)


@pytest.mark.parametrize("trainers", [TRAINERS, (*TRAINERS, "new")])
def test_no_second_own_model_leaves_in_a_job_that_is_resumed(site: Site, trainers: tuple[str, ...]) -> None:
    hospital, document = opened(site)
    hospital.give_model(document, [yes_of(document), hospital.agree_to_give(document)])
    keep_alone(hospital.site.state, JOB, RELEASED, patient_keys=trainers)
    resumed = site.open()
    consents = [yes_of(document), resumed.agree_to_give(document)]
    with pytest.raises(JobRefused, match="model_changed"):
        resumed.give_model(document, consents)
    assert len(resumed.ledger().entries().jobs[document.id].rounds) == 1


def test_a_model_of_others_than_the_job_was_reserved_for_does_not_leave(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital, document = opened(site)
    monkeypatch.setattr(site_counts, "answer_once", dies)
    with pytest.raises(Stopped, match="aborted"):
        hospital.give_model(document, [yes_of(document), hospital.agree_to_give(document)])
    monkeypatch.undo()
    keep_alone(hospital.site.state, JOB, RELEASED, patient_keys=(*TRAINERS, "new"))
    resumed = site.open()
    consents = [yes_of(document), resumed.agree_to_give(document)]
    with pytest.raises(JobRefused, match="model_changed"):
        resumed.give_model(document, consents)
    assert not resumed.ledger().entries().jobs[document.id].rounds


def dies(*_: object, **__: object) -> None:
    raise Stopped("aborted", "of a test")


def test_what_lies_sealed_leaves_only_if_it_is_what_was_signed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital, document = opened(site)
    consents = [yes_of(document), hospital.agree_to_give(document)]
    for sealed in (None, RELEASED):
        monkeypatch.setattr(site_counts, "answer_once", lambda *_, sealed=sealed, **__: Answer(sealed, 10, {}))
        with pytest.raises(JobRefused, match="model_changed"):
            hospital.give_model(document, consents)


def no_task_lets_it_out(hospital: Hospital, document: JobDocument, code: str) -> None:
    """Neither giving the own model nor counting is done, and nothing is reserved."""
    consents = (yes_of(document), hospital.agree_to_give(document))
    with pytest.raises(JobRefused, match=code):
        hospital.give_model(document, consents)
    with pytest.raises(JobRefused, match=code):
        hospital.evaluate_release(document, brought=OwnModels(consents, {"east": EASTS}))
    assert not hospital.ledger().entries().jobs


def test_an_own_model_of_too_few_patients_does_not_leave_however_many_are_here_today(site: Site) -> None:
    hospital, document = opened(site, own=None)
    keep_alone(hospital.site.state, JOB, OWN, patient_keys=TRAINERS[:2])
    no_task_lets_it_out(hospital, document, "too_few_patients")


def test_an_own_model_of_nobody_knows_whom_does_not_leave(site: Site) -> None:
    hospital, document = opened(site, own=None)
    forget_who_trained(keep_alone(hospital.site.state, JOB, OWN, patient_keys=TRAINERS))
    no_task_lets_it_out(hospital, document, "unknown_patients")


def test_a_patient_who_was_deleted_after_training_is_charged_for_the_model_that_leaves(site: Site) -> None:
    hospital, document = opened(site, own=None)
    keep_alone(hospital.site.state, JOB, OWN, patient_keys=("north00", *TRAINERS))
    forget(hospital, "north00")
    hospital.give_model(document, [yes_of(document), hospital.agree_to_give(document)])
    assert hospital.ledger().entries().is_unprotected(hospital.ledger().pseudonym("north00"))


def test_no_model_leaves_a_hospital_whose_ledger_was_put_back(site: Site) -> None:
    hospital, document = opened(site)
    consents = [yes_of(document), hospital.agree_to_give(document)]
    with pytest.raises(StoreError, match="ledger_rolled_back"):
        hospital.give_model(document, consents, seen=Head(99, "0" * 64))
    assert not hospital.ledger().entries().jobs


def test_an_own_model_that_is_no_numbers_is_not_agreed_on(site: Site) -> None:
    hospital, document = opened(site)
    put_weights(hospital.site.state / "alone" / "ball.npz", np.full_like(OWN, np.nan))
    with pytest.raises(UpdateRefused, match="not_finite"):
        hospital.agree_to_give(document)


def test_a_damaged_own_model_stops_the_job_here(site: Site) -> None:
    hospital, document = opened(site)
    (hospital.site.state / "alone" / "ball.npz").write_bytes(b"none")
    with pytest.raises(StoreError, match="cannot_read"):
        hospital.agree_to_give(document)


@pytest.mark.parametrize(
    ("signed_for", "brought", "kind", "code"),
    [
        (EASTS, {"east": EASTS + np.float32(1e-3)}, JobRefused, "model_changed"),
        (EASTS, {"west": EASTS}, JobRefused, "model_changed"),
        (EASTS, {"../east": EASTS}, JobRefused, "model_changed"),
        (None, {"east": EASTS}, JobRefused, "model_changed"),
        (EASTS, {"east": EASTS, "north": EASTS}, JobRefused, "model_changed"),
        (EASTS[:-1], {"east": EASTS[:-1]}, UpdateRefused, "wrong_layout"),
        (EASTS, {"east": EASTS.astype(np.float64)}, UpdateRefused, "wrong_layout"),
        (np.full_like(EASTS, np.inf), {"east": np.full_like(EASTS, np.inf)}, UpdateRefused, "not_finite"),
    ],
)
def test_a_model_that_is_not_what_its_hospital_signed_or_not_of_the_network_is_not_run(
    site: Site, signed_for: Weights | None, brought: dict[str, Weights], kind: type[FedwardError], code: str
) -> None:
    hospital, document = opened(site)
    consents = (yes_of(document, signed_for), hospital.agree_to_give(document))
    with pytest.raises(kind, match=code):
        hospital.evaluate_release(document, brought=OwnModels(consents, brought))
    assert not hospital.ledger().entries().jobs, "what is refused costs nobody anything"


def test_models_without_a_yes_of_all_are_not_run(site: Site) -> None:
    hospital, document = opened(site)
    for brought in (NO_MODELS, OwnModels((yes_of(document),), {"east": EASTS})):
        with pytest.raises(JobRefused, match="not_all_agreed"):
            hospital.evaluate_release(document, brought=brought)


@pytest.mark.parametrize(
    ("training", "task", "hollow"),
    [
        (JOB, "lesions", False),
        (classifying(JOB), "classification", True),
        (multitasking(JOB, ("nodule",)), "multitask", True),
    ],
)
def test_a_model_of_absurd_numbers_stops_no_hospital(
    site: Site, training: TrainingJob, task: EvaluatedTask, hollow: bool
) -> None:
    """Finite weights may still give scores that are none."""
    site.edit(lambda text: text.replace('"validation_cases"]', '"validation_cases", "evaluation"]'))
    job = EvaluationJob.model_validate(MATRIX.model_dump() | {"task": task})
    hospital, document = opened(site, job, None, training)
    absurd = np.full_like(initial_weights(training), 3e38)
    consents = (yes_of(document, absurd), hospital.agree_to_give(document))
    counted = hospital.evaluate_release(document, brought=OwnModels(consents, {"east": absurd}))
    assert set(counted.rows) == {"release", "of east"}
    assert counted.rows["of east"].any() != hollow
    assert set(numbers_of(site)["models"]) == ({"release"} if hollow else {"release", "of east"})
