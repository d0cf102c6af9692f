from __future__ import annotations

import numpy as np
import pytest
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.fuel.utils import fobs
from nvflare.private.fed.utils.fed_utils import nvflare_fobs_initialize

from fedward.errors import JobRefused, ModelError, UpdateRefused
from fedward.federation.algorithms import Control
from fedward.federation.record import WORDS
from fedward.hospital import Evaluated, TrainedRound
from fedward.privacy.head import Head
from fedward.privacy.plan import Spent
from fedward.release.package import ReleaseParts
from fedward_flare import exchange, words
from fedward_flare.exchange import GlobalModel

WEIGHTS = np.arange(5, dtype=np.float32)


@pytest.fixture(scope="module", autouse=True)
def _nvflare_encodings() -> None:
    nvflare_fobs_initialize()


def sent(message: Shareable) -> Shareable:
    """Through NVFLARE's own encoding and back."""
    return fobs.loads(fobs.dumps(message))


def test_a_model_arrives_as_it_was_sent() -> None:
    heads = {"north": Head(7, "ab" * 32)}
    model = exchange.unpack_model(sent(exchange.pack_model(GlobalModel(number=3, weights=WEIGHTS, heads=heads))))
    assert (model.number, model.heads) == (3, heads)
    np.testing.assert_array_equal(model.weights, WEIGHTS)


def test_a_control_arrives_as_it_was_sent() -> None:
    control = Control(2 * WEIGHTS, {"north": 4})
    model = exchange.unpack_model(sent(exchange.pack_model(GlobalModel(5, WEIGHTS, control=control))))
    assert model.control is not None
    assert model.control.counted == {"north": 4}
    np.testing.assert_array_equal(model.control.numbers, 2 * WEIGHTS)


@pytest.mark.parametrize(
    ("numbers", "counted"), [(WEIGHTS, {"north": 0}), (WEIGHTS, {"north": "1"}), (WEIGHTS, None), ([1.0], {})]
)
def test_a_control_that_is_none_is_refused(numbers: object, counted: object) -> None:
    message = exchange.pack_model(GlobalModel(1, WEIGHTS, control=Control(WEIGHTS)))
    message["fedward.control"], message["fedward.counted"] = numbers, counted
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_model(message)


def test_an_update_arrives_as_it_was_sent() -> None:
    spent, head = Spent(2.5, 1e-5), Head(7, "ab" * 32)
    trained = TrainedRound(update=WEIGHTS, weight=20, metrics={"validation_score": 0.5}, spent=spent, head=head)
    got = exchange.unpack_trained(sent(exchange.pack_trained(trained)))
    assert (got.weight, got.metrics, got.spent, got.head) == (20, {"validation_score": 0.5}, spent, head)
    np.testing.assert_array_equal(got.update, WEIGHTS)


def test_a_release_arrives_as_it_was_sent() -> None:
    parts = ReleaseParts(model=b"m", passport=b"p", signature=b"s")
    assert exchange.unpack_release(sent(exchange.pack_release(parts))) == parts


def test_counts_arrive_as_they_were_sent() -> None:
    answer = sent(exchange.pack_done({"findings": 20}))
    assert exchange.failure_of(answer) is None
    assert exchange.unpack_counts(answer) == {"findings": 20}
    assert exchange.unpack_counts(exchange.pack_done()) == {}


@pytest.mark.parametrize(
    "weights",
    [WEIGHTS.astype(np.float64), WEIGHTS.reshape(5, 1), WEIGHTS[:0], WEIGHTS.tolist(), None, "weights", b"\x00"],
    ids=["float64", "2-D", "empty", "list", "none", "text", "bytes"],
)
def test_weights_that_are_not_one_flat_float32_array_are_refused(weights: object) -> None:
    message = exchange.pack_model(GlobalModel(number=1, weights=weights))  # type: ignore[arg-type]
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_model(message)
    answer = exchange.pack_trained(TrainedRound(update=weights, weight=10, metrics={}))  # type: ignore[arg-type]
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_trained(answer)


@pytest.mark.parametrize("spent", [("2", 1e-5), (-1.0, 1e-5), (float("inf"), 1e-5), (2.0, 0.0), (2.0, None)])
def test_a_spend_that_is_none_is_refused(spent: tuple[float, float]) -> None:
    answer = exchange.pack_evaluated(Evaluated(weight=10, metrics={}, spent=Spent(*spent)))
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_evaluated(answer)


@pytest.mark.parametrize("head", [(-1, "ab" * 32), (1, "ab"), ("1", "ab" * 32), (1, 2), None])
def test_a_ledger_head_that_is_none_counts_as_not_known(head: object) -> None:
    answer = exchange.pack_evaluated(Evaluated(weight=10, metrics={}))
    answer["fedward.head"] = head
    assert exchange.unpack_evaluated(answer).head is None
    message = exchange.pack_model(GlobalModel(1, WEIGHTS))
    message["fedward.heads"] = {"north": head}
    assert exchange.unpack_model(message).heads == {}


@pytest.mark.parametrize("number", [0, -1, 1.0, True, None])
def test_a_round_that_is_none_is_refused(number: object) -> None:
    message = exchange.pack_model(GlobalModel(number, WEIGHTS))  # type: ignore[arg-type]
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_model(message)


@pytest.mark.parametrize("weight", [0, -10, 1.5, True, None, "10", float("nan")])
def test_a_weight_that_is_no_positive_whole_number_is_refused(weight: object) -> None:
    answer = exchange.pack_evaluated(Evaluated(weight=weight, metrics={}))  # type: ignore[arg-type]
    with pytest.raises(UpdateRefused, match="weight_invalid"):
        exchange.unpack_evaluated(answer)


@pytest.mark.parametrize(
    "metrics",
    [
        {"score": float("nan")},
        {"score": float("inf")},
        {"score": "0.5"},
        {"score": True},
        {"../up": 0.5},
        {7: 0.5},
        {f"m{i}": 0.5 for i in range(101)},
    ],
    ids=["nan", "inf", "text", "bool", "path", "number", "too many"],
)
def test_metrics_that_are_not_finite_numbers_under_names_are_refused(metrics: dict) -> None:
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_evaluated(exchange.pack_evaluated(Evaluated(weight=10, metrics=metrics)))


@pytest.mark.parametrize("counts", [{"done": -1}, {"done": 1.5}, {"a b": 1}, {"done": True}])
def test_counts_that_are_not_whole_numbers_under_codes_are_refused(counts: dict) -> None:
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_counts(exchange.pack_done(counts))


def test_a_release_with_a_huge_passport_is_refused() -> None:
    parts = ReleaseParts(model=b"m", passport=bytes((1 << 20) + 1), signature=b"s")
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_release(exchange.pack_release(parts))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JobRefused("too_few_patients", "3 patients: Doe, Roe, Poe"), "too_few_patients"),
        (ModelError("wrong_layout", "detail"), "wrong_layout"),
        (ValueError("/data/doe_john.dcm"), "internal_error"),
    ],
)
def test_an_error_travels_as_its_code_alone(error: Exception, code: str) -> None:
    answer = words.failure(error)
    assert exchange.failure_of(answer) == code
    text = str(fobs.dumps(answer)).lower()
    assert "doe" not in text
    assert "detail" not in text


def test_a_failure_without_a_proper_code_is_an_internal_error() -> None:
    answer = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    assert exchange.failure_of(answer) == "internal_error"
    for text in ("<b>shown to the coordinator</b>", *WORDS):
        answer["fedward.error"] = text
        assert exchange.failure_of(answer) == "internal_error"
