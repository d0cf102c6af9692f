from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.errors import StoreError
from fedward.store.vault import BRICK, Vault

VAULT = Vault(b"k" * 32)


def volume(shape: tuple[int, int, int], dtype: type = np.float16) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_bytes_come_back(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    VAULT.write(tmp_path / "file", content)
    assert VAULT.read(tmp_path / "file") == content


@pytest.mark.parametrize("shape", [(1, 1, 1), (BRICK, BRICK, BRICK), (33, 64, 31), (5, 100, 70)])
@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_a_volume_comes_back(tmp_path: Path, shape: tuple[int, int, int], dtype: type) -> None:
    array = volume(shape, dtype)
    VAULT.write_volume(tmp_path / "case.image", array)
    sealed = VAULT.volume(tmp_path / "case.image")
    assert (sealed.shape, sealed.dtype) == (shape, dtype)
    np.testing.assert_array_equal(sealed.whole(), array)


@settings(max_examples=60)
@given(data=st.data())
def test_any_box_and_voxel_are_those_of_the_array(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = (40, 70, 33)
    path = tmp_path_factory.getbasetemp() / "box.image"
    array = volume(shape)
    if not path.exists():
        VAULT.write_volume(path, array)
    sealed = VAULT.volume(path)
    ends = [sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))) for n in shape]
    box = tuple(slice(start, stop) for start, stop in ends)
    np.testing.assert_array_equal(sealed[box], array[box])
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    assert sealed[voxel] == array[voxel]


@settings(max_examples=40)
@given(data=st.data())
def test_every_change_on_the_disk_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("changed")
    VAULT.write(folder / "file", b"x" * 3000)
    VAULT.write_volume(folder / "case", volume((40, 40, 40), np.uint8))
    for path, read in ((folder / "file", VAULT.read), (folder / "case", lambda path: VAULT.volume(path).whole())):
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] ^= data.draw(st.integers(1, 255))
        else:
            del content[at:]
        path.write_bytes(content)
        with pytest.raises(StoreError, match="cannot_read"):
            read(path)


def test_bricks_do_not_change_places_nor_files(tmp_path: Path) -> None:
    array = volume((2 * BRICK, BRICK, BRICK), np.uint8)
    for name in ("a", "b"):
        VAULT.write_volume(tmp_path / name, array)
    one, other = ((tmp_path / name).read_bytes() for name in ("a", "b"))
    brick = BRICK**3 + 16
    head = one[: -2 * brick]
    for changed in (head + one[-brick:] + one[-2 * brick : -brick], head + one[-2 * brick : -brick] + other[-brick:]):
        (tmp_path / "a").write_bytes(changed)
        with pytest.raises(StoreError, match="cannot_read"):
            VAULT.volume(tmp_path / "a").whole()
    (tmp_path / "a").write_bytes(other)
    with pytest.raises(StoreError, match="cannot_read"):
        VAULT.volume(tmp_path / "a")


def test_the_disk_shows_nothing_and_no_two_files_are_alike(tmp_path: Path) -> None:
    content = b"Doe^Jane" * 1000
    for name in ("one", "two"):
        VAULT.write(tmp_path / name, content)
    one, two = ((tmp_path / name).read_bytes()[-4000:] for name in ("one", "two"))
    assert b"Doe" not in one
    assert one != two
    assert np.bincount(np.frombuffer(one, np.uint8), minlength=256).max() < 60


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    VAULT.write(tmp_path / "file", b"content")
    with pytest.raises(StoreError, match="cannot_read"):
        Vault(b"l" * 32).read(tmp_path / "file")


def test_the_key_is_made_once_and_its_owners_alone(tmp_path: Path) -> None:
    first = Vault.open(tmp_path / "storage.key")
    assert Vault.open(tmp_path / "storage.key") == first
    assert stat.S_IMODE((tmp_path / "storage.key").stat().st_mode) == 0o600
    assert first.key.hex() not in repr(first)
    (tmp_path / "storage.key").chmod(0o640)
    with pytest.raises(StoreError, match="unsafe_permissions"):
        Vault.open(tmp_path / "storage.key")
