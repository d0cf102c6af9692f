"""The coordinator's folder in a federation of several machines: there ``fedward job`` and ``fedward model`` find it.

It is a work folder (:mod:`fedward_flare.workdir`) from which no process is started: its server runs elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from fedward.errors import FederationError
from fedward.files import explained_writes
from fedward_flare.enrolment import read_plan
from fedward_flare.workdir import FederationState, Workdir, claimed


def make_desk(project_file: Path, root: Path) -> Workdir:
    """Make the folder of the coordinator whom ``project_file`` names first, in a new or empty folder.

    The kit is packaged into its ``kits``. The release key lies in its ``coordinator`` only where coordinator and
    release officer are one person (else :mod:`fedward_flare.proposals`).

    Raises:
        FederationError: ``provision_failed``: see :func:`fedward_flare.enrolment.read_plan`; ``workdir_not_ours``: the
            folder holds something else, ``workdir_in_use``: or a federation already.
    """
    plan = read_plan(project_file)
    state = FederationState(
        project=plan.name,
        coordinator=next(str(person["name"]) for person in plan.persons if person.get("role") == "lead"),
        hospitals=tuple(str(hospital["name"]) for hospital in plan.hospitals),
        server=str(plan.server["name"]),
        port=plan.admin_port,
    )
    with claimed(root) as workdir:
        if workdir.state().project:
            raise FederationError("workdir_in_use", f"{root} holds a federation already; name a new folder")
        with explained_writes(workdir.root):
            for folder in (workdir.kits, workdir.coordinator, workdir.root / "tmp"):
                folder.mkdir(mode=0o700, exist_ok=True)
        workdir.write_state(state)
    return workdir
