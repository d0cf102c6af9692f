"""What runs at a site when a job asks: unpack, call the hospital, pack the answer.

The hospital decides by its own site file, whose path stands in the environment of the site's service; a job cannot
name it. What nobody foresaw is written to the site's own error log and leaves as ``internal_error``.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from abc import abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import FedwardError, SettingsError, SumRefused
from fedward.hospital import Hospital, RoundTask
from fedward.identity.document import JobDocument, SignedJob
from fedward_flare import ckks_exchange, counts_exchange, exchange, models_exchange, sum_exchange, tasks, words
from fedward_flare.signed import decode_signed_job

#: Where the site's service finds the hospital's own file.
SITE_FILE = "FEDWARD_SITE_FILE"

#: Beside the site file.
ERROR_LOG = "errors.log"


class _SiteExecutor(Executor):
    """Opens the hospital once per job process and turns every error into its code.

    Args:
        signed_job: The job as the coordinator signed it, in the text form of :mod:`fedward_flare.signed`.
    """

    def __init__(self, signed_job: str) -> None:
        super().__init__()
        self._signed_job = signed_job

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Do one task; the answer holds a result or the code of the error that prevented it."""
        return self._explained(task_name, lambda: self._answer(task_name, shareable, abort_signal))

    def _explained(self, task_name: str, work: Callable[[], Shareable]) -> Shareable:
        """Do the work; what leaves, and what is refused, stands in the hospital's audit before it is given back."""
        try:
            answer = words.passed(task_name, work(), words.Names(frozenset(self._document.sites)))
            self._hospital.audit.note("sent", message=task_name, bytes=exchange.size_of(answer), job=self._document.id)
            return answer
        except FedwardError as error:
            self._log_locally(f"{error.code}: {error.detail}")
            return self._refused(task_name, error)
        except Exception as error:  # noqa: BLE001  the outermost loop of the job process
            self._log_locally(traceback.format_exc())
            return self._refused(task_name, error)

    def _refused(self, task_name: str, error: Exception) -> Shareable:
        answer = words.failure(error)
        with contextlib.suppress(Exception):  # a hospital that cannot be opened has no audit to write to
            code = exchange.failure_of(answer) or words.INTERNAL_ERROR
            self._hospital.audit.note("refusal", what=task_name, code=code)
        return answer

    @abstractmethod
    def _answer(self, task_name: str, shareable: Shareable, abort_signal: Signal) -> Shareable:
        """Do the task."""

    @cached_property
    def _hospital(self) -> Hospital:
        return self._open_hospital()

    @cached_property
    def _document(self) -> JobDocument:
        """The job after the hospital has verified and accepted it."""
        return self._hospital.accept(self._signed)

    @cached_property
    def _signed(self) -> SignedJob:
        return decode_signed_job(self._signed_job)

    def _open_hospital(self) -> Hospital:
        return Hospital.open(_site_file())

    def _log_locally(self, text: str) -> None:
        """Write to the site's own error log; it never leaves the site."""
        with contextlib.suppress(FedwardError, OSError):
            log = _site_file().parent / ERROR_LOG
            with open(log, "a", encoding="utf-8", opener=_owner_only) as file:
                file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text.rstrip()}\n")


class _SummingExecutor(_SiteExecutor):
    """Takes part in a job's encrypted sum."""

    def __init__(self, signed_job: str) -> None:
        super().__init__(signed_job)
        #: The round and the sum that were decrypted last: the server may ask for it, after its hash.
        self._total: tuple[int, NDArray[np.uint32]] | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Listen for what the server asks directly, from the job's start on."""
        if event_type == EventType.START_RUN:
            engine = fl_ctx.get_engine()
            for topic in (tasks.VOTE_TOPIC, tasks.OPEN_TOPIC):
                engine.register_aux_message_handler(topic, self._answer_directly)

    def _answer_directly(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        return self._explained(topic, lambda: self._agree(topic, request))

    def _agree(self, topic: str, request: Shareable) -> Shareable:
        """Sign who is in the sum, or open this site's shares."""
        number, survivors, votes = sum_exchange.unpack_survivors(request)
        document = self._trusted()
        if topic == tasks.VOTE_TOPIC:
            return sum_exchange.pack_vote(self._hospital.sign_survivors(document, number, survivors))
        return sum_exchange.pack_opened(self._hospital.open_shares(document, number, survivors, votes))

    def _answer(self, task_name: str, shareable: Shareable, abort_signal: Signal) -> Shareable:
        """Do a task of the sum, or the job's own."""
        if task_name == tasks.SET_UP_TASK:
            attempt, first_round = sum_exchange.unpack_begin(shareable)
            set_up = self._hospital.begin_sum(
                self._trusted(), attempt=attempt, first_round=first_round, should_stop=_should_stop(abort_signal)
            )
            return sum_exchange.pack_set_up(set_up)
        if task_name == tasks.SHARES_TASK:
            first_round, set_ups = sum_exchange.unpack_set_ups(shareable)
            return sum_exchange.pack_boxes(self._hospital.deal_shares(self._trusted(), first_round, set_ups))
        if task_name == tasks.DECRYPT_TASK:
            number, receipts, blocks = ckks_exchange.unpack_sum(shareable)
            self._total = number, self._hospital.decrypt_sum(self._trusted(), number, receipts, blocks)
            return ckks_exchange.pack_digest(self._total[1])
        if task_name == tasks.TOTAL_TASK:
            return self._decrypted(ckks_exchange.unpack_ask(shareable))
        return self._work(task_name, shareable, abort_signal)

    @abstractmethod
    def _work(self, task_name: str, shareable: Shareable, abort_signal: Signal) -> Shareable:
        """Do the job's own task."""

    def _decrypted(self, number: int) -> Shareable:
        if self._total is None or self._total[0] != number:
            raise SumRefused("wrong_round", f"this process has decrypted no sum of round {number}")
        return ckks_exchange.pack_total(self._total[1])

    def _trusted(self) -> JobDocument:
        """Give the accepted job, which the site still lets in: its signer, its end date, a person's word."""
        document = self._document
        self._hospital.check_signer(self._signed)
        return document


class TrainExecutor(_SummingExecutor):
    """Validates the incoming model, trains on it, and gives the update; closes the job with a validation."""

    def _work(self, task_name: str, shareable: Shareable, abort_signal: Signal) -> Shareable:
        model, boxes = exchange.unpack_model(shareable), sum_exchange.boxes_of(shareable)
        document = self._trusted()
        seen = model.heads.get(self._hospital.site.name)
        task = RoundTask(document, model.number, model.weights, seen, boxes, model.control)
        if task_name == tasks.TRAIN_TASK:
            return exchange.pack_trained(self._hospital.train_round(task, should_stop=_should_stop(abort_signal)))
        return exchange.pack_evaluated(self._hospital.evaluate(task, should_stop=_should_stop(abort_signal)))


class EvaluationExecutor(_SummingExecutor):
    """Has the hospital count how well an installed release does; noised counts come back.

    Where job and site file say so it also has it agree to give its own model, and give it.
    """

    def _work(self, task_name: str, shareable: Shareable, abort_signal: Signal) -> Shareable:
        document, should_stop = self._trusted(), _should_stop(abort_signal)
        if task_name == tasks.AGREE_TASK:
            return models_exchange.pack_consent(self._hospital.agree_to_give(document))
        seen = exchange.read_seen(shareable, site=self._hospital.site.name)
        if task_name == tasks.GIVE_TASK:
            consents = models_exchange.unpack_consents(shareable)
            given = self._hospital.give_model(document, consents, seen=seen, should_stop=should_stop)
            return models_exchange.pack_local_model(given)
        counted = self._hospital.evaluate_release(
            document,
            seen=seen,
            boxes=sum_exchange.boxes_of(shareable),
            brought=models_exchange.read_own_models(shareable),
            should_stop=should_stop,
        )
        return counts_exchange.pack_counted(counted)


class PublishExecutor(_SiteExecutor):
    """Hands a release to the hospital, which verifies it before it is anything more than bytes."""

    def _answer(self, task_name: str, shareable: Shareable, abort_signal: Signal) -> Shareable:
        self._hospital.install(self._document, exchange.unpack_release(shareable))
        return exchange.pack_done()


class GateExecutor(_SiteExecutor):
    """Has the hospital compare a model with the one that runs there; one bit comes back."""

    def _answer(self, task_name: str, shareable: Shareable, abort_signal: Signal) -> Shareable:
        from fedward.gating import gate

        files = exchange.unpack_candidate(shareable)
        return exchange.pack_bit(gate(self._hospital, self._document, files, should_stop=_should_stop(abort_signal)))


class InferenceExecutor(_SiteExecutor):
    """Has the hospital run its own active model over its own studies; only rounded counts come back."""

    def _answer(self, task_name: str, shareable: Shareable, abort_signal: Signal) -> Shareable:
        exchange.require_empty(shareable)
        return exchange.pack_done(self._hospital.infer(self._document, should_stop=_should_stop(abort_signal)))


def _site_file() -> Path:
    path = os.environ.get(SITE_FILE)
    if not path:
        raise SettingsError("missing_file", f"the site's service must name the hospital's site file in {SITE_FILE}")
    return Path(path)


def _should_stop(signal: Signal) -> Callable[[], bool]:
    return lambda: bool(signal.triggered)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
