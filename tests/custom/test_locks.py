"""What a site's engine answers once it is locked; each test runs in a process of its own, as a site does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedward.errors import FederationError
from fedward_flare import locks
from fedward_flare.locks import EXIT_CODE
from fedward_flare.services import require_locks
from fedward_flare.workdir import Workdir

PRELUDE = """
import json, os, sys
from pathlib import Path
from nvflare.fuel.sec.authz import AuthorizationService
from nvflare.private.admin_defs import Message
from nvflare.private.defs import RequestHeader
from nvflare.private.fed.client.admin import FedAdminAgent
from nvflare.private.fed.client.client_req_processors import ClientRequestProcessors
from nvflare.security.security import FLAuthorizer
from fedward.errors import JobRefused
from fedward_flare import locks
from fedward_flare.share import shared

def policy():
    content = json.loads(shared("provision", "authorization.json").read_text())
    AuthorizationService.initialize(FLAuthorizer("north", content))

def code(topic, body="", **headers):
    request = Message(topic, body)
    request.set_headers(headers)
    try:
        locks.check_request(request)
    except JobRefused as refusal:
        return refusal.code
    return "passed"

JOB = "da0f5d69-206e-4434-9389-1989d511f230"
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def answer(program: str) -> object:
    done = run(program)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_shell_is_gone_and_so_is_every_topic_that_a_federation_does_not_need() -> None:
    before, after = answer("""
topics = lambda: sorted(t for p in ClientRequestProcessors.request_processors for t in p.get_topics())
before = topics()
policy()
locks.close_doors()
locks.close_doors()
print(json.dumps([before, topics()]))
""")
    assert "sys.shell" in before
    assert set(after) == locks.TOPICS
    assert len(before) > len(after)
    assert not any(topic.startswith("sys.") for topic in after)


def test_no_command_of_a_job_sets_up_logging_or_tells_more_than_how_it_stands() -> None:
    before, after = answer("""
from nvflare.private.fed.client.admin_commands import AdminCommands
names = lambda: sorted(command.get_command_name() for command in AdminCommands.commands)
before = names()
locks.SiteLocks()
locks.SiteLocks()
print(json.dumps([before, names()]))
""")
    assert "configure_job_log" in before
    assert set(after) == locks.JOB_COMMANDS
    assert not set(after) & {"configure_job_log", "show_stats", "show_errors"}


def test_a_role_that_the_server_claims_passes_only_where_the_sites_policy_gives_the_right() -> None:
    codes = answer("""
policy()
roles = ("lead", "project_admin", "org_admin", "member", "")
print(json.dumps({
    topic: {role: code(topic, **{RequestHeader.USER_ROLE: role, RequestHeader.USER_NAME: "x"}) for role in roles}
    for topic in ("train.shutdown", "scheduler.check_resource", "sys.shell", "train.restart")
}))
""")
    assert codes["train.shutdown"]["org_admin"] == "passed"
    assert codes["scheduler.check_resource"]["lead"] == "passed"
    refused = [c for topic in ("train.shutdown", "scheduler.check_resource") for c in codes[topic].values()]
    assert refused.count("not_authorised") == 8
    assert set(codes["sys.shell"].values()) == set(codes["train.restart"].values()) == {"topic_not_allowed"}


@pytest.mark.parametrize("job_id", ["../../..", "/etc", "x", "", "da0f5d69-206e-4434-9389-1989d511f230/.."])
def test_a_job_id_that_is_none_never_becomes_a_path(job_id: str) -> None:
    found = answer(f"""
policy()
print(json.dumps([code(t, **{{RequestHeader.JOB_ID: {job_id!r}}}) for t in sorted(locks.TOPICS)]))
""")
    assert set(found) == {"unknown_job"}


def test_a_job_that_was_not_let_in_is_neither_started_nor_deleted() -> None:
    found = answer("""
policy()
print(json.dumps([code(t, **{RequestHeader.JOB_ID: JOB}) for t in ("train.start_job", "train.delete_run")]))
""")
    assert found == ["unknown_job", "unknown_job"]


@pytest.mark.parametrize(
    "program",
    [
        "locks.SiteLocks().handle_event('_system_bootstrap', None)",
        "policy(); locks.SiteLocks().handle_event('_system_start', None)",
        "policy(); ClientRequestProcessors.request_processors.clear();"
        "locks.SiteLocks().handle_event('_system_bootstrap', None)",
        "policy(); del FedAdminAgent._dispatch_request; locks.SiteLocks().handle_event('_system_bootstrap', None)",
    ],
    ids=["no policy", "not closed before", "another engine", "no door to guard"],
)
def test_a_site_whose_locks_do_not_fit_ends(program: str) -> None:
    done = run(program)
    assert done.returncode == EXIT_CODE
    assert "does not start" in done.stderr


def test_no_job_is_launched_in_a_process_without_locks() -> None:
    with pytest.raises(RuntimeError, match="not in place"):
        locks.require_in_place()


def test_closing_the_doors_keeps_errors_files_and_memory_at_the_site() -> None:
    logging, mask, core = answer("""
import resource
policy()
os.environ.pop("NVFLARE_SECURE_LOGGING", None)
locks.close_doors()
print(json.dumps([os.environ["NVFLARE_SECURE_LOGGING"], os.umask(0), resource.getrlimit(resource.RLIMIT_CORE)[0]]))
""")
    assert (logging, mask, core) == ("true", 0o077, 0)


def test_a_kit_without_locks_is_not_started(workdir: Workdir, tmp_path: Path) -> None:
    require_locks(workdir.kit("north"))
    resources = json.loads((workdir.kit("north") / "local" / "resources.json.default").read_text())
    resources["components"] = [c for c in resources["components"] if c["id"] != "fedward_locks"]
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "resources.json.default").write_text(json.dumps(resources))
    with pytest.raises(FederationError, match="kit_without_locks"):
        require_locks(tmp_path)
