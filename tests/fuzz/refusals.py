"""What a parser of foreign input may do: answer, or refuse."""

from __future__ import annotations

from collections.abc import Callable

from fedward.errors import FedwardError


def expect_refusal(call: Callable[[], object]) -> None:
    """Call; a refusal of ours is as good as an answer."""
    try:
        call()
    except FedwardError as error:
        assert error.code in type(error).codes  # noqa: PT017  any refusal will do, so there is no pytest.raises
