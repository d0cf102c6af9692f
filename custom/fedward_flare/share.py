"""Where the files lie that come with the package: job files, the proof-of-concept federation, provisioning."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shared(*parts: str) -> Path:
    """Give the path of a file or folder that is shipped with fedward, such as ``shared("jobs", "inference.toml")``.

    An installed wheel carries them below the package; an editable install finds them in the checkout.
    """
    installed = _PACKAGE.joinpath("share", *parts)
    return installed if installed.exists() else _PACKAGE.parents[1].joinpath(*parts)
