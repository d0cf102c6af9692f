"""Feed every parser for minutes: ``python tests/fuzz/long.py [--seconds 300] [TARGET ...]``.

Each target runs in a process of its own, which may take 1 GB more than it has when it begins and ten seconds for one
input; a crash, a hang, a want of memory or any error but a refusal ends it with the input printed.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402

from fuzz.targets import TARGETS, Target  # noqa: E402

MEMORY_BYTES = 1 << 30
INPUT_S = 10
_BATCH = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(target.name for target in TARGETS))
    parser.add_argument("--seconds", type=float, default=300.0, help="for each target (default 300)")
    parser.add_argument("--here", action="store_true", help="in this process: one target")
    asked = parser.parse_args()
    chosen = [target for target in TARGETS if not asked.targets or target.name in asked.targets]
    if asked.here:
        feed(chosen[0], asked.seconds)
        return 0
    failed = [target.name for target in chosen if not ends_well(target.name, asked.seconds)]
    print(f"faults in: {', '.join(failed)}" if failed else "no fault found")
    return 1 if failed else 0


def ends_well(name: str, seconds: float) -> bool:
    command = [sys.executable, __file__, "--here", "--seconds", str(seconds), name]
    return subprocess.run(command, check=False).returncode == 0


def feed(target: Target, seconds: float) -> None:
    warnings.simplefilter("error")
    inputs = target.inputs()
    limit()
    count, until = 0, time.monotonic() + seconds

    @settings(
        max_examples=_BATCH,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        database=None,
        print_blob=False,
    )
    @given(inputs)
    def one_batch(value: object) -> None:
        nonlocal count
        count += 1
        faulthandler.dump_traceback_later(INPUT_S, exit=True)
        target.run(value)
        faulthandler.cancel_dump_traceback_later()

    while time.monotonic() < until:
        one_batch()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{target.name}: {count} inputs in {seconds:.0f} s, at most {peak:.0f} MB", flush=True)


def limit() -> None:
    """Let this process grow by no more than :data:`MEMORY_BYTES`, and show where it crashes."""
    faulthandler.enable()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    sys.exit(main())
