"""Every parser of foreign input, and what it is fed: our own messages, changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from fuzz import documents, encrypted, images, messages


@dataclass(frozen=True)
class Target:
    """A parser: what it is fed, and how; anything but a FedwardError that comes out is a fault."""

    name: str
    inputs: Callable[[], st.SearchStrategy[Any]]
    run: Callable[[Any], object]


TARGETS = (
    Target("job_document", documents.documents, documents.read_document),
    Target("site_file", documents.site_files, documents.read_site_file),
    Target("passport", documents.releases, documents.read_release),
    Target("set_up", messages.set_up_messages, messages.read_set_up_message),
    Target("update", messages.updates, messages.read_update),
    Target("dicom", images.headers, images.read_header),
    Target("ckks", encrypted.ckks_messages, encrypted.read_ckks),
)
