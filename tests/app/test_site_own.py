"""What a hospital keeps for itself under SCAFFOLD and FedBN, from the signed job to the reports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluation_cases import evaluation_job, evaluation_of, with_held_out
from fedward import gating, site_evaluation
from fedward.errors import JobRefused, ReleaseRefused, StoreError, UpdateRefused
from fedward.federation.algorithms import Control, RoundFacts, RoundStart, server_of
from fedward.federation.record import JobRecord, RoundRecord
from fedward.hospital import Hospital, RoundTask, TrainedRound
from fedward.identity.document import Candidate, JobDocument
from fedward.inference.load import Chosen, flat_weights, load_model
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.models.weights import layout_of, named, read_weights
from fedward.release.gate import CandidateFiles
from fedward.release.make import make_release
from fedward.release.model_store import find_installed, load_installed
from fedward.release.package import ReleaseParts, model_bytes
from fedward.release.passport import check_parent, parse_passport
from fedward.settings.algorithms import AnyAlgorithm, FedBN, Scaffold
from fedward.settings.job import GateJob, Sites, StartFrom, TrainingJob
from fedward.site_own import OwnNumbers
from fedward.store.vault import Vault
from fedward.training.local import train
from fedward.training.optimiser import local_distance
from fedward.training.own import norms_of
from hospital_cases import SITES, Site, document_of, make_site, signed
from release_cases import CERTIFICATE, FIRST_RELEASE, KEY
from tiny_federation import training_job
from trust_cases import NOW, inference_job


def job_of(algorithm: AnyAlgorithm, **training: object) -> TrainingJob:
    job = training_job(rounds=3, minimum=2)
    return job.model_copy(
        update={"algorithm": algorithm, "training": job.training.model_copy(update={"learning_rate": 0.02, **training})}
    )


BN = job_of(FedBN(name="fedbn"))
SCAFFOLD = job_of(Scaffold(name="scaffold"), optimiser="sgd")
NORMS = norms_of(BN)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def begin(hospital: Hospital, job: TrainingJob) -> tuple[JobDocument, np.ndarray]:
    return hospital.accept(signed(document_of(job))), initial_weights(job)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


# FedBN


def norms_round(hospital: Hospital, document: JobDocument, number: int, weights: np.ndarray) -> np.ndarray:
    trained = hospital.train_round(RoundTask(document, number, weights))
    assert isinstance(trained.update, np.ndarray)
    return trained.update


def own_after(hospital: Hospital, folder: Path, number: int) -> np.ndarray:
    return OwnNumbers(folder, Vault.open(hospital.site.sealing_key)).after(number)


def own_files(hospital: Hospital, document: JobDocument) -> list[Path]:
    return sorted((hospital.site.state / "norms" / document.id).iterdir())


def test_no_norm_leaves_the_site_and_each_round_goes_on_with_the_sites_own(site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, BN)
    first = norms_round(hospital, document, 1, weights)
    assert not first[NORMS].any()
    assert first[~NORMS].all()
    own = own_after(hospital, own_files(hospital, document)[0].parent, 1)
    assert np.abs(own - weights[NORMS]).max() > 0.005
    assert mode_of(own_files(hospital, document)[0]) == 0o600

    # What others make of the shared numbers changes no norm here: the round starts from this site's own.
    global_model = np.asarray(weights + first + 0.01, np.float32)
    expected = np.where(NORMS, 0, global_model)
    expected[NORMS] = own
    seen: list[np.ndarray] = []

    def trained(start: np.ndarray, *arguments: object, **named: object) -> object:
        seen.append(start)
        return train(start, *arguments, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedward.site_training.train", trained)
        patch.setattr("fedward.site_training.score_cases", lambda given, *_, **__: seen.append(given) or ())
        norms_round(site_again(site, document), document, 2, global_model)
    np.testing.assert_array_equal(seen[0], expected), "validated"
    np.testing.assert_array_equal(seen[1], expected), "trained"


def site_again(site: Site, document: JobDocument) -> Hospital:
    """The hospital in another process, which has accepted the job."""
    hospital = site.open()
    hospital.accept(signed(document))
    return hospital


def release_of(document: JobDocument, weights: np.ndarray, best: int) -> ReleaseParts:
    job = document.job
    rounds = tuple(RoundRecord(number=n, seconds=1.0, weights=dict.fromkeys(SITES, 10)) for n in (1, 2, 3))
    digest = hashlib.sha256(weights.tobytes()).hexdigest()
    ended = {"status": "completed", "rounds": rounds, "best_round": best, "weights_sha256": digest}
    record = JobRecord.begin(document).model_copy(update=ended)
    model = model_bytes(named(layout_of(build(job.network, task=job.task)), weights))
    given = {"number": 1, "gate": FIRST_RELEASE, "now": NOW, "key": KEY, "certificate": CERTIFICATE}
    return make_release(model, document, record, **given)


def test_a_release_runs_with_the_norms_that_the_site_validated_it_with(site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, BN)
    received = [weights]
    for number in (1, 2, 3):
        received.append(received[-1] + norms_round(hospital, document, number, received[-1]))
    hospital.evaluate(RoundTask(document, 4, received[-1]))
    assert not (hospital.site.state / "jobs" / document.id).exists()

    # The second round's model is the best: the site had trained two rounds when it received it.
    parts = release_of(document, received[2], best=2)
    assert parse_passport(parts.passport).norms_at_site
    hospital.install_parts(parts)
    hospital.activate("ball-1")
    release = load_installed(find_installed(hospital.database, "ball-1"), state=hospital.site.state)
    np.testing.assert_array_equal(flat_weights(release.parts, release.passport)[NORMS], weights[NORMS])
    norms = hospital.own_norms(release)
    assert norms is not None
    np.testing.assert_array_equal(norms, own_after(hospital, own_files(hospital, document)[1].parent, 2))
    run = read_weights(load_model(hospital.choose(release, None), runtime=Runtime()).network)
    np.testing.assert_array_equal(run[NORMS], norms)
    np.testing.assert_array_equal(run[~NORMS], received[2][~NORMS])
    with pytest.raises(ReleaseRefused, match="norms_missing"):
        load_model(Chosen(release), runtime=Runtime())

    counts = hospital.infer(hospital.accept(signed(document_of(inference_job()))))
    assert counts["refused"] == 0
    assert sum(counts.values()) > 0
    own_files(hospital, document)[1].write_bytes(b"damaged")
    with pytest.raises(StoreError, match="cannot_read"):
        hospital.own_norms(release)


def test_gate_and_evaluation_score_the_model_that_would_run_here_and_no_training_starts_from_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = with_held_out(site).open()
    document, weights = begin(hospital, BN)
    after = weights + norms_round(hospital, document, 1, weights)
    hospital.evaluate(RoundTask(document, 4, after))
    parts = release_of(document, after, best=1)
    hospital.install_parts(parts)
    expected = after.copy()
    expected[NORMS] = own_after(hospital, own_files(hospital, document)[0].parent, 1)
    seen: list[np.ndarray] = []

    def noted(function: Callable[..., object]) -> Callable[..., object]:
        def call(given: np.ndarray, *arguments: object, **named: object) -> object:
            seen.append(given)
            return function(given, *arguments, **named)

        return call

    monkeypatch.setattr(gating, "score_cases", noted(gating.score_cases))
    monkeypatch.setattr(site_evaluation, "measure_cases", noted(site_evaluation.measure_cases))
    candidate = Candidate(job_id=document.id, weights_sha256=hashlib.sha256(after.tobytes()).hexdigest())
    asked = GateJob(kind="gate", name="gate", margin=0.1, noise_multiplier=1.0, sites=Sites(minimum=1))
    files = CandidateFiles(model=parts.model, document=document.content())
    gating.gate(hospital, hospital.accept(signed(document_of(asked, candidate=candidate))), files)
    hospital.evaluate_release(hospital.accept(signed(evaluation_of(evaluation_job(), parts))))
    assert len(seen) == 3, "the candidate, the running release, and the release under evaluation"
    for given in seen:
        np.testing.assert_array_equal(given, expected)

    warm = BN.model_copy(update={"start_from": StartFrom(name="ball", number=1)})
    start = document_of(warm, parts)
    with pytest.raises(ReleaseRefused, match="norms_missing"):
        check_parent(start, parse_passport(parts.passport))
    hospital.accept(signed(start))
    with pytest.raises(JobRefused, match="wrong_start"):
        norms_round(hospital, start, 1, after)


def test_a_site_that_trained_in_no_round_has_no_norms_and_runs_no_such_release(site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, BN)
    hospital.evaluate(RoundTask(document, 4, weights))
    parts = release_of(document, weights, best=3)
    with pytest.raises(ReleaseRefused, match="norms_missing"):
        hospital.install_parts(parts)
    with pytest.raises(ReleaseRefused, match="norms_missing"):
        hospital.activate("ball-1")
    with pytest.raises(ReleaseRefused, match="no_active_model"):
        hospital.infer(hospital.accept(signed(document_of(inference_job()))))


def test_a_passport_of_any_other_model_reads_as_it_always_did(site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, job_of(BN.algorithm.__class__(name="fedbn")))
    plain = document.model_copy(update={"job": training_job(rounds=3, minimum=2)})
    passport = parse_passport(release_of(plain, weights, best=3).passport)
    assert passport.norms_at_site is None
    assert b"norms_at_site" not in passport.content()


# SCAFFOLD


def scaffold_round(hospital: Hospital, document: JobDocument, start: RoundStart) -> TrainedRound:
    return hospital.train_round(RoundTask(document, start.number, start.weights, control=start.control))


def test_a_site_keeps_its_control_and_the_servers_follows_without_it_being_sent(site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, SCAFFOLD)
    server = server_of(SCAFFOLD.algorithm)
    state, counted = server.init(weights), {}
    for number in (1, 2):
        control = Control(state[0], counted)
        # Another process in every round: what a round needs of the one before lies on the disk.
        here = site_again(site, document)
        update = scaffold_round(here, document, RoundStart(number, weights, control)).update
        assert isinstance(update, np.ndarray)
        facts = RoundFacts(local_distance=local_distance(number, SCAFFOLD.training))
        weights, state = server.apply(state, weights, update, facts)
        counted = {"north": number}
        path = here.site.state / "jobs" / document.id / f"own-{number}.state"
        # One site alone: the server's control is its control.
        np.testing.assert_allclose(own_after(here, path.parent, number), state[0], rtol=1e-4, atol=1e-6)
        assert mode_of(path) == 0o600
    assert state[0].any()


def test_a_round_that_did_not_count_is_forgotten(site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, SCAFFOLD)
    zero, some = np.zeros_like(weights), np.full_like(weights, 1e-3)
    scaffold_round(hospital, document, RoundStart(1, weights, Control(zero)))
    folder = hospital.site.state / "jobs" / document.id
    first = own_after(hospital, folder, 1)
    corrections: list[np.ndarray | None] = []

    def trained(*arguments: object, correction: np.ndarray | None, **named: object) -> object:
        corrections.append(correction)
        return train(*arguments, correction=correction, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedward.site_training.train", trained)
        scaffold_round(hospital, document, RoundStart(2, weights, Control(some, {"north": 1})))
        scaffold_round(hospital, document, RoundStart(3, weights, Control(some, {"north": 1})))
    np.testing.assert_allclose(corrections[0], some - first)
    np.testing.assert_allclose(corrections[1], some - first), "round 2 missed the sum"
    assert (folder / "own-1.state").exists()


def test_without_the_control_that_the_server_knows_of_a_site_takes_no_part(site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, SCAFFOLD)
    with pytest.raises(StoreError, match="cannot_read"):
        scaffold_round(hospital, document, RoundStart(2, weights, Control(np.zeros_like(weights), {"north": 1})))


@pytest.mark.parametrize("control", [None, np.zeros(3, np.float32), np.full(initial_weights(SCAFFOLD).size, np.nan)])
def test_a_round_without_a_whole_control_is_refused(control: np.ndarray | None, site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, SCAFFOLD)
    given = None if control is None else Control(control.astype(np.float32))
    with pytest.raises(UpdateRefused, match="malformed_message"):
        scaffold_round(hospital, document, RoundStart(1, weights, given))


def test_another_control_for_a_known_round_is_refused(site: Site) -> None:
    hospital = site.open()
    document, weights = begin(hospital, SCAFFOLD)
    zero = np.zeros_like(weights)
    scaffold_round(hospital, document, RoundStart(1, weights, Control(zero)))
    with pytest.raises(JobRefused, match="model_changed"):
        scaffold_round(hospital, document, RoundStart(1, weights, Control(zero + 1)))


def test_sites_that_sum_together_must_have_the_same_control_and_count() -> None:
    weights = np.ones(3, np.float32)
    starts = [
        RoundStart(1, weights),
        RoundStart(1, weights, Control(weights)),
        RoundStart(1, weights, Control(2 * weights)),
        RoundStart(1, weights, Control(weights, {"north": 1})),
    ]
    assert len({start.sha256 for start in starts}) == 4
    assert starts[0].sha256 == starts[1].weights_sha256
