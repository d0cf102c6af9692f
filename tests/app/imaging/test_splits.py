from __future__ import annotations

import pytest

from fedward.imaging.splits import assign
from fedward.settings.site import Split

KEY = bytes(range(32))
SPLIT = Split(validation=0.2, test=0.3)


def test_a_patient_falls_where_the_hmac_says() -> None:
    # `openssl dgst -sha256 -mac HMAC -macopt hexkey:00..1f`, first eight bytes over 2^64: 0.318, 0.589, 0.219.
    assert assign("a", key=KEY, split=SPLIT) == "validation"
    assert assign("b", key=KEY, split=SPLIT) == "train"
    assert assign("e", key=KEY, split=SPLIT) == "test"


def test_shares_are_met_over_many_patients() -> None:
    parts = [assign(f"patient {n}", key=KEY, split=SPLIT) for n in range(4000)]
    assert parts.count("test") / 4000 == pytest.approx(0.3, abs=0.03)
    assert parts.count("validation") / 4000 == pytest.approx(0.2, abs=0.03)


def test_another_key_gives_another_split() -> None:
    patients = [f"patient {n}" for n in range(50)]
    ours = [assign(p, key=KEY, split=SPLIT) for p in patients]
    assert [assign(p, key=KEY[::-1], split=SPLIT) for p in patients] != ours


def test_more_validation_moves_no_test_patient() -> None:
    patients = [f"patient {n}" for n in range(200)]
    wider = Split(validation=0.5, test=0.3)
    tested = [p for p in patients if assign(p, key=KEY, split=SPLIT) == "test"]
    assert tested == [p for p in patients if assign(p, key=KEY, split=wider) == "test"]


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        assign("a", key=b"short", split=SPLIT)
