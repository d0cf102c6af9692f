from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_series import write_series
from fedward.dicom.bounded import BoundedReader

READ = """
import resource, sys
from pathlib import Path
from fedward.dicom.parse import parse_file
limit = {limit}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(type(parse_file(Path(sys.argv[1]), Path(sys.argv[1]).parent)).__name__)
"""


@given(content=st.binary(max_size=60), sizes=st.lists(st.integers(-1, 2**33), max_size=5))
def test_it_reads_what_a_file_reads(tmp_path_factory: pytest.TempPathFactory, content: bytes, sizes: list[int]) -> None:
    path = tmp_path_factory.mktemp("read") / "file"
    path.write_bytes(content)
    with BoundedReader(path) as file:
        rest = content
        for size in sizes:
            expected = rest if size < 0 else rest[:size]
            assert file.read(size) == expected
            rest = rest[len(expected) :]


def test_a_length_that_lies_costs_no_memory(tmp_path: Path) -> None:
    path = write_series(tmp_path, count=1).paths[0]
    content = bytearray(path.read_bytes())
    at = content.index(b"\x08\x00\x70\x00LO")
    content[at + 4 : at + 8] = b"OB\0\0"
    content[at + 8 : at + 12] = b"\xf0\xff\xff\xff"
    path.write_bytes(content)
    # Torch is not loaded; what the reader needs itself fits well into two gigabytes, four more do not.
    script = READ.format(limit=2 << 30)
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "Broken" in run.stdout or "Image" in run.stdout
