"""A charge buys one answer: it lies sealed on the site's disk before its first byte leaves, and no other ever will.

What lies there is encrypted: an update in the clear tells more of its patients than the sum that leaves.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.errors import JobRefused, StoreError
from fedward.privacy.ledger import Ledger
from fedward.privacy.mechanisms import Spend
from fedward.store.vault import Vault

#: Answers that are kept: the last round's may be asked for again while the next one runs.
_KEPT = 2


@dataclass(frozen=True, eq=False)
class Answer:
    """What leaves the site in one round.

    Attributes:
        update: Weights after minus before, flat float32; None where the task trains nothing.
        weight: The site's public weight.
        metrics: What the site lets out about the model that came in.
    """

    update: NDArray[np.float32] | None
    weight: int
    metrics: Mapping[str, float]

    def to_bytes(self) -> bytes:
        """Write the answer down."""
        buffer = io.BytesIO()
        about = json.dumps({"weight": self.weight, "metrics": dict(self.metrics)}).encode()
        update = {} if self.update is None else {"update": self.update}
        np.savez(buffer, allow_pickle=False, about=np.frombuffer(about, np.uint8), **update)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Answer:
        """Read what :meth:`to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as parts:
            about = json.loads(parts["about"].tobytes())
            return cls(parts.get("update"), int(about["weight"]), about["metrics"])


def answer_once(
    ledger: Ledger,
    folder: Path,
    *,
    vault: Vault,
    job_id: str,
    number: int,
    model_sha256: str,
    spend: Spend,
    make: Callable[[], Answer],
) -> Answer:
    """Charge a round, make its answer, seal it and give it; for a round that is sealed give the same answer again.

    Args:
        ledger: The site's.
        folder: The job's own, where sealed answers lie.
        vault: Encrypts them.
        job_id: The job.
        number: The round.
        model_sha256: Of the model that came.
        spend: What the round does, by group.
        make: Trains and measures; called at most once a charge, unless the process died before the seal.

    Raises:
        JobRefused: as :meth:`Ledger.charge`; ``round_is_over``: its sealed answer is no longer kept, or was damaged.
    """
    path = folder / f"sealed-{number}"
    known = ledger.charge(job_id, number, model_sha256=model_sha256, spend=spend)
    if known.update_sha256 is not None:
        answer = _read_sealed(vault, path, known.update_sha256)
    else:
        content = make().to_bytes()
        vault.write(path, content)
        ledger.seal(job_id, number, update_sha256=hashlib.sha256(content).hexdigest())
        answer = Answer.from_bytes(content)
    for old in range(1, number - _KEPT + 1):
        (folder / f"sealed-{old}").unlink(missing_ok=True)
    ledger.mark_sent(job_id, number)
    return answer


def _read_sealed(vault: Vault, path: Path, digest: str) -> Answer:
    try:
        content = vault.read(path)
    except StoreError:
        content = b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise JobRefused("round_is_over", f"{path.name} is not there or not what was sealed, and no other may leave")
    return Answer.from_bytes(content)
