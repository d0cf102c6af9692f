"""No private key and no token in the tree, nor in any line that a commit ever added.

The patterns are detect-secrets'. A line that only looks like a secret is accepted here by its hash, with the reason.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from detect_secrets.core.scan import scan_line
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parents[1]

#: Patterns of real formats; the ones that guess from entropy or from words take every hash for a secret.
DETECTORS = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "CloudantDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "IbmCloudIamDetector",
    "JwtTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)

#: The first 16 digits of the line's SHA-256, without the spaces around it, and why it is none.
_ACCEPTED = {
    "f620dc1ac7eb57da": "the test of a database that nobody answers for",
    "ce60eb6408573d0d": "the site template's example, in capitals",
    "75c34de3dae8af14": "the test of a key that is none",
}


def main() -> int:
    """Give the exit code."""
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        faults = [*found_in(tree()), *found_in(history())]
    for fault in faults:
        print(f"secrets: {fault}", file=sys.stderr)
    return 1 if faults else 0


def found_in(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Give where a line holds what looks like a secret, and of what kind; never the secret."""
    seen: set[str] = set()
    for place, line in lines:
        bare = line.strip()
        if bare in seen or hashlib.sha256(bare.encode()).hexdigest()[:16] in _ACCEPTED:
            continue
        seen.add(bare)
        for secret in scan_line(line):
            yield f"{place} holds what looks like: {secret.type}"


def tree() -> Iterator[tuple[str, str]]:
    """Give every line of the tree's own files; of a folder without git, of all files that are not hidden or built."""
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if listed is None:
        names = [
            path.relative_to(ROOT)
            for folder in ("app", "custom", "jobs", "poc", "provision", "tests", "docs")
            for path in (ROOT / folder).rglob("*")
            if "__pycache__" not in path.parts
        ]
    else:
        names = [Path(name) for name in listed.split("\0") if name]
    for name in names:
        if (ROOT / name).is_file():
            for number, line in enumerate((ROOT / name).read_text("utf-8", errors="replace").splitlines(), start=1):
                yield f"{name}:{number}", line


def history() -> Iterator[tuple[str, str]]:
    """Give every line that a commit added."""
    commit = ""
    for line in (_git("log", "--patch", "--unified=0", "--no-color", "--format=commit %h") or "").splitlines():
        if line.startswith("commit "):
            commit = line
        elif line.startswith("+") and not line.startswith("+++"):
            yield commit, line[1:]


def _git(*words: str) -> str | None:
    found = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)
    return found.stdout.decode("utf-8", errors="replace") if found.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
