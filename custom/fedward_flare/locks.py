"""The locks on the engine's doors at a site.

NVFLARE's client obeys its server: a request that does not ask for authorisation gets none, and one of the topics is a
shell that reads any file of the site. :class:`SiteLocks` stands in each hospital's kit. Before the site registers it
takes the shell away and puts itself before every request: a closed list of topics, each with its own condition,
whatever the request says about authorisation. Before a process of the site connects it also silences the network
layer's own requests and the job's commands. A site on which it cannot take hold ends at once.

Who asks is what the server says: a right given to a role is given to the server too. So each right that a federation of
ours can do without is nobody's.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import AdminCommandNames
from nvflare.apis.fl_context import FLContext
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
from nvflare.fuel.f3.cellnet.defs import ReturnCode as NetworkCode
from nvflare.fuel.f3.cellnet.net_agent import NetAgent
from nvflare.fuel.f3.cellnet.utils import make_reply
from nvflare.fuel.sec.authz import AuthorizationService, AuthzContext, Person
from nvflare.private.admin_defs import Message, MsgHeader, ReturnCode, error_reply
from nvflare.private.defs import RequestHeader, TrainingTopic, new_cell_message
from nvflare.private.fed.client.admin import FedAdminAgent
from nvflare.private.fed.client.admin_commands import AdminCommands
from nvflare.private.fed.client.client_req_processors import ClientRequestProcessors
from nvflare.private.fed.utils.app_authz import AppAuthzService
from nvflare.security.logging import SECURE_LOGGING_VAR_NAME
from nvflare.security.security import FLAuthorizer

from fedward.errors import JobRefused
from fedward_flare import refusal_log, wire
from fedward_flare.job_folder import SiteJobValidator, check_archive

#: What ends with this code did so because its locks do not fit (EX_CONFIG of sysexits.h).
EXIT_CODE = 78

#: The right that a topic needs at the site, whoever the server says is asking.
_RIGHTS = {
    TrainingTopic.DEPLOY: "submit_job",
    TrainingTopic.CHECK_RESOURCE: "submit_job",
    TrainingTopic.SHUTDOWN: "shutdown",
}

#: Topics without a person behind them; each concerns a job that this site let in.
_OF_A_KNOWN_JOB = frozenset(
    {TrainingTopic.START_JOB, TrainingTopic.ABORT, TrainingTopic.DELETE_RUN, TrainingTopic.NOTIFY_JOB_STATUS}
)

#: Everything that a server may ask a site's parent process.
TOPICS = frozenset(_RIGHTS) | _OF_A_KNOWN_JOB | {TrainingTopic.CANCEL_RESOURCE}

#: What a job's process is told by its parent.
JOB_COMMANDS = frozenset(
    {
        AdminCommandNames.CHECK_STATUS,
        AdminCommandNames.ABORT,
        AdminCommandNames.ABORT_TASK,
        AdminCommandNames.SHUTDOWN,
    }
)

#: NVFLARE's own job ids; the engine makes paths of them.
_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_known_jobs: set[str] = set()
_in_place = False

_Dispatch = Callable[[FedAdminAgent, Any], Any]


class SiteLocks(FLComponent):
    """Closes the engine's doors before the site connects and registers, and looks again when it has started.

    It is made in the site's parent process and in every job's, each time before there is a connection.
    """

    def __init__(self) -> None:
        super().__init__()
        _or_end(close_side_doors)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Take hold of the parent process."""
        if event_type == EventType.SYSTEM_BOOTSTRAP:
            _or_end(close_doors)
        elif event_type == EventType.SYSTEM_START:
            _or_end(lambda: verify_closed(fl_ctx.get_engine().admin_agent))


def close_side_doors() -> None:
    """Close what every process of a site opens: the network's own requests, the job's commands, the words on the wire.

    The network would tell the site's settings, end its process, or lead it to another server; one of a job's commands
    sets up logging from a text of the server, and with it calls any function.

    Raises:
        RuntimeError: the engine is not the one that these locks were made for.
    """
    doors = [name for name in vars(NetAgent) if name.startswith("_do_")]
    _expect({"_do_stop", "_do_change_root", "_do_config_vars"} <= set(doors), "the network answers other requests")
    for name in doors:
        setattr(NetAgent, name, _answer_nothing)
    commands = AdminCommands.commands
    commands[:] = [command for command in commands if command.get_command_name() in JOB_COMMANDS]
    found = {command.get_command_name() for command in commands}
    _expect(found == JOB_COMMANDS, f"a job takes the commands {sorted(found)}, expected {sorted(JOB_COMMANDS)}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wire.close_wire(TOPICS)


def close_doors() -> None:
    """Close what the engine leaves open; called again it changes nothing.

    Raises:
        RuntimeError: the engine is not the one that these locks were made for.
    """
    os.environ[SECURE_LOGGING_VAR_NAME] = "true"
    os.umask(0o077)
    _expect(isinstance(AuthorizationService.get_authorizer(), FLAuthorizer), "the site has no authorisation policy")
    AppAuthzService.initialize(SiteJobValidator())
    processors = ClientRequestProcessors.request_processors
    processors[:] = [processor for processor in processors if set(processor.get_topics()) <= TOPICS]
    found = {topic for processor in processors for topic in processor.get_topics()}
    _expect(found == TOPICS, f"the engine answers {sorted(found)}, expected {sorted(TOPICS)}")
    if not _is_guarded():
        FedAdminAgent._dispatch_request = _guard(FedAdminAgent._dispatch_request)


def verify_closed(agent: Any) -> None:
    """See that the running engine is locked; from here on jobs may be started.

    Raises:
        RuntimeError: it is not.
    """
    global _in_place
    _expect(type(agent) is FedAdminAgent and _is_guarded(), "requests do not pass the locks")
    _expect(set(agent.processors) == TOPICS, f"the engine answers {sorted(agent.processors)}")
    _expect(type(AppAuthzService.app_validator) is SiteJobValidator, "jobs are not validated")
    _expect(wire.is_closed(), "what is sent does not pass the gate")
    _in_place = True


def require_in_place() -> None:
    """Refuse to go on in a process without locks.

    Raises:
        RuntimeError: the locks are not in place.
    """
    _expect(_in_place, "the engine's locks are not in place: the kit is not one of fedward")


def check_request(request: Message) -> None:
    """Refuse a request of the server that this site does not answer.

    Raises:
        JobRefused: ``topic_not_allowed``, ``not_authorised``, ``unknown_job``, or why the job was not let in.
    """
    topic, job_id = request.topic, request.get_header(RequestHeader.JOB_ID)
    if topic not in TOPICS:
        raise JobRefused("topic_not_allowed", f"the server asked for {topic!r}")
    if job_id is not None and not (isinstance(job_id, str) and _JOB_ID.fullmatch(job_id)):
        raise JobRefused("unknown_job", f"the server named a job {job_id!r}")
    if topic in _OF_A_KNOWN_JOB and job_id not in _known_jobs:
        raise JobRefused("unknown_job", f"the server asked for {topic} of a job that was not let in")
    right = _RIGHTS.get(topic)
    if right is not None and not _is_authorised(request, right):
        raise JobRefused("not_authorised", f"the server asked for {topic}; nobody that it names may {right}")
    if topic == TrainingTopic.DEPLOY:
        check_archive(request.body)


def _answer_nothing(_: NetAgent, request: Any) -> Any:
    """Stand for every request of the network layer."""
    refusal_log.note(f"network.{request.get_header(MessageHeaderKey.TOPIC)}", "topic_not_allowed")
    return make_reply(NetworkCode.UNAUTHENTICATED, "topic_not_allowed")


def _or_end(lock: Callable[[], None]) -> None:
    """Do it, or end the process: NVFLARE swallows what an event handler raises, and an open site must not go on."""
    try:
        lock()
    except BaseException as error:  # noqa: BLE001
        sys.stderr.write(f"the engine's locks do not fit, so this site does not start: {error}\n")
        sys.stderr.flush()
        os._exit(EXIT_CODE)


def _guard(dispatch: _Dispatch) -> _Dispatch:
    @wraps(dispatch)
    def guarded(agent: FedAdminAgent, message: Any) -> Any:
        request = message.payload
        try:
            if not isinstance(request, Message):
                raise JobRefused("topic_not_allowed", f"the server sent a {type(request).__name__}")
            check_request(request)
        except JobRefused as refusal:
            refusal_log.note(getattr(request, "topic", ""), refusal.code)
            return new_cell_message({}, error_reply(refusal.code))
        for header in (RequestHeader.ADMIN_COMMAND, RequestHeader.REQUIRE_AUTHZ):
            request.headers.pop(header, None)  # decided above; the server's words count for nothing
        reply = dispatch(agent, message)
        if request.topic != TrainingTopic.DEPLOY:
            return reply
        if not _is_ok(reply.payload):
            code = _code_of(reply.payload)
            refusal_log.note(request.topic, code)
            return new_cell_message({}, error_reply(code))
        _known_jobs.add(request.get_header(RequestHeader.JOB_ID))
        return reply

    guarded.fedward_locks = True  # type: ignore[attr-defined]
    return guarded


def _code_of(reply: object) -> str:
    """Give the code of what the engine itself says against a job; its own words stay here."""
    body = str(getattr(reply, "body", ""))
    return "bad_signature" if "signature" in body or "signed" in body else "internal_error"


def _is_authorised(request: Message, right: str) -> bool:
    def person(*headers: str) -> Person:
        return Person(*(str(request.get_header(header) or "") for header in headers))

    user = person(RequestHeader.USER_NAME, RequestHeader.USER_ORG, RequestHeader.USER_ROLE)
    submitter = person(RequestHeader.SUBMITTER_NAME, RequestHeader.SUBMITTER_ORG, RequestHeader.SUBMITTER_ROLE)
    allowed, error = AuthorizationService.authorize(AuthzContext(user=user, submitter=submitter, right=right))
    return bool(allowed and not error)


def _is_guarded() -> bool:
    return bool(getattr(FedAdminAgent._dispatch_request, "fedward_locks", False))


def _is_ok(reply: object) -> bool:
    return isinstance(reply, Message) and reply.get_header(MsgHeader.RETURN_CODE, ReturnCode.OK) == ReturnCode.OK


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise RuntimeError(otherwise)
