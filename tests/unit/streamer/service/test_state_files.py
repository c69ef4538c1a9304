from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.errors import SessionError
from streamer.service.state_files import StateFiles

BIG = np.random.default_rng(1).normal(size=(100, 200))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other, equal_nan=True)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("tree", [
    {}, {"a": [1, 2.5, None, True, "text", b"bytes"], "b": {"c": -1e-300}},
    {"small": np.arange(5, dtype=np.uint16), "big": BIG, "complex": BIG.astype(np.complex64)},
    {"empty": np.zeros((0, 3), np.float32), "scalar": np.float32(0.1), "double": np.float64(0.1), "flag": np.bool_(1)},
    {"nan": np.array([np.nan, np.inf]), "bools": BIG > 0, "bytes": BIG.astype(">f4")},
], ids=["nothing", "builtins", "arrays", "corners", "kinds"])
def test_a_state_comes_back(tmp_path: Path, tree: dict[str, Any]) -> None:
    files = StateFiles(tmp_path / "state")
    files.write(7, tree)
    again = StateFiles(tmp_path / "state")
    assert again.positions() == [7]
    assert _same(tree, again.read(7))


@pytest.mark.parametrize("array", [BIG.T, BIG[::2, ::3], BIG[:, ::-1], np.asfortranarray(BIG)])
def test_the_order_in_memory_comes_back_as_far_as_it_is_one(tmp_path: Path, array: np.ndarray) -> None:
    files = StateFiles(tmp_path)
    files.write(0, {"array": array})
    read = StateFiles(tmp_path).read(0)["array"]
    np.testing.assert_array_equal(read, array)
    assert read.flags.f_contiguous == array.flags.f_contiguous
    assert read.flags.writeable


def test_what_two_share_they_share_again(tmp_path: Path) -> None:
    StateFiles(tmp_path).write(0, {"one": BIG, "other": [BIG], "equal": BIG.copy()})
    tree = StateFiles(tmp_path).read(0)
    assert tree["one"] is tree["other"][0]
    assert len(list(tmp_path.glob("*.array"))) == 1


def test_only_new_arrays_are_written_and_old_ones_go(tmp_path: Path) -> None:
    files, other = StateFiles(tmp_path), BIG + 1
    assert files.write(0, {"a": BIG}) > BIG.nbytes
    assert files.write(1, {"a": BIG, "b": [1]}) < 1000
    assert StateFiles(tmp_path).write(2, {"a": BIG}) < 1000   # known by its content
    files.write(3, {"b": other})
    assert files.positions() == [3]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < BIG.nbytes + 1000
    files = StateFiles(tmp_path)
    tree = files.read(3)
    assert files.write(4, tree) < 1000   # what was read is known, too


@pytest.mark.parametrize("suffix", [".state", ".array"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_damage_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    StateFiles(tmp_path).write(5, {"a": BIG})
    (path,) = tmp_path.glob(f"*{suffix}")
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage != "missing":
        data[len(data) // 2] ^= 1
        path.write_bytes(data[:-40] if damage == "cut" else data)
    with pytest.raises(SessionError, match=r"5\.state cannot be read"):
        StateFiles(tmp_path).read(5)


def test_a_state_that_was_not_finished_leaves_the_one_before(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    files.write(1, {"a": BIG})
    (tmp_path / "2.state.part").write_bytes(b"half")
    (tmp_path / "abc.array.part").write_bytes(b"half")
    assert files.positions() == [1]
    np.testing.assert_array_equal(StateFiles(tmp_path).read(1)["a"], BIG)
    files.write(2, {"a": BIG})
    assert not list(tmp_path.glob("*.part"))


def test_what_is_no_state_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="object"):
        StateFiles(tmp_path).write(0, {"a": object()})
