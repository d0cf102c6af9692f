"""The program of a job's process: NVFLARE's own, and an end without delay.

A Python process that has loaded PyTorch and MONAI spends as long on taking them apart at its end as it did on loading
them, and NVFLARE's monitor sleeps before that, when the process has closed its connections already. Everybody waits for
both before the job is over.
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
from functools import partial

from nvflare.fuel.f3.mpm import MainProcessMonitor

MODULE = "fedward_flare.job_process"


def job_command(command: str) -> str:
    """Put this program around the one that NVFLARE's command starts: ``python -m MODULE ARGUMENTS``.

    Raises:
        ValueError: the command starts no module.
    """
    python, module, rest = command.partition(" -m ")
    if not module:
        raise ValueError(f"expected a command with -m, found {command!r}")
    return f"{python} -m {MODULE} {rest}"


def main() -> None:
    """Run the module that the first argument names with the others, and end the process with its code."""
    MainProcessMonitor.run = partial(MainProcessMonitor.run, shutdown_grace_time=0)
    module = sys.argv.pop(1)
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    # What fails here and is no SystemExit ends the process in Python's own way, with its traceback.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
