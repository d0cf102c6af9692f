"""A hospital as a party to one job's sum under encryption, of either kind: its state, its set-up, what it encodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedward.errors import SumRefused
from fedward.federation.quantise import Quantiser
from fedward.federation.secure_job import session_of
from fedward.federation.secure_messages import Session, SetUp, Value
from fedward.identity.document import JobDocument
from fedward.identity.roster import Signer
from fedward.identity.trusted import signer_of
from fedward.privacy.sealed import Answer
from fedward.randomness import Secret
from fedward.settings.job import SummedJob
from fedward.settings.site import read_site_settings, require_identity
from fedward.store.vault import Vault

State = TypeVar("State", bound=Value)


class Begin(Protocol[State]):
    """Makes an attempt's first state and its set-up; ``after`` is what the site kept of the attempt before."""

    def __call__(
        self, session: Session, signer: Signer, *, minimum: int, secret: Secret, after: State | None
    ) -> tuple[State, SetUp]:
        """Make them."""


@dataclass(frozen=True, eq=False)
class SumParty(ABC, Generic[State]):
    """What a hospital's part is in either kind of sum.

    Attributes:
        site_file: Read anew in every round: who is revoked since is not summed with.
        document: The accepted job.
        job: What it says.
        quantiser: The job's fixed-point format.
        folder: The job's own, where the state lies.
        clock: Gives the time.
    """

    #: The state's file in the folder.
    _file: ClassVar[str]

    site_file: Path
    document: JobDocument
    job: SummedJob
    quantiser: Quantiser
    folder: Path
    clock: Callable[[], datetime]

    @property
    @abstractmethod
    def _kind(self) -> type[State]:
        """What a state is, to read one back."""

    def _begin(self, begin: Begin[State], *, attempt: int, first_round: int) -> SetUp:
        """Begin an attempt after the one that the site knows, and write its state down."""
        site = read_site_settings(self.site_file)
        before = self._read() if self._path.exists() else None
        session = session_of(self.document, self.job, self.quantiser, attempt=attempt, first=first_round)
        signer = signer_of(require_identity(site), name=site.name)
        smallest = site.bounds.organisations_in_a_sum
        state, set_up = begin(session, signer, minimum=smallest, secret=Secret(), after=before)
        self._write(state)
        return set_up

    def _encode(self, answer: Answer) -> NDArray[np.uint32]:
        """Give what a round's charge bought as the vector that is summed.

        Raises:
            UpdateRefused: the answer is not what the job sums.
        """
        encoded = self.quantiser.encode(
            answer.update if answer.update is not None else np.zeros(self.quantiser.size, np.float32),
            weight=answer.weight,
            metrics={name: answer.metrics.get(name, 0.0) for name in self.quantiser.metrics},
            secret=Secret(),
        )
        return encoded.vector

    @property
    def _path(self) -> Path:
        return self.folder / self._file

    def _read(self) -> State:
        if not self._path.exists():
            raise SumRefused("set_up_unfinished", "this site has begun no set-up for the job")
        return self._kind.from_bytes(self._vault.read(self._path))

    def _write(self, state: State) -> None:
        self._vault.write(self._path, state.to_bytes())

    @cached_property
    def _vault(self) -> Vault:
        """Encrypts the state: it holds the keys of rounds to come and the peers' shares."""
        return Vault.open(read_site_settings(self.site_file).sealing_key)
