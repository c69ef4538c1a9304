"""The examples of docs/deformation.md run, one after the other, and name every function of the table."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "deformation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def write_session(names: dict[str, Any]) -> None:
    """Store the field of the first example as a session would."""
    field = names["field"]
    Path("session").mkdir()
    with h5py.File("session/flow.h5", "w") as file:
        file["grid_y_px"], file["grid_x_px"] = field.grid_y_px, field.grid_x_px
        for name in ("displacement_px", "valid", "sigma_px"):
            file[f"frames/000012/{name}"] = getattr(field, name)


def test_examples_run_and_find_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/deformation.md, python block {number}", "exec"), names)  # noqa: S102  (our own page)
        if number == 0:
            write_session(names)
    assert np.array_equal(names["stored"].valid, names["field"].valid)
    assert names["found"].count > 20
    assert names["motion"].valid.mean() > 0.7
    assert names["five"].count == 5
    assert names["regions"].adjusted_rand_index(names["five"].label, names["truth"]) > 0.8
    assert names["of_cells"].label.shape == names["moved"].number.shape
    assert np.array_equal(names["same_colours"] > 0, names["five"].label > 0)
    assert names["test"].distance == 0


def test_functions_of_the_table_exist() -> None:
    table = PAGE.split("| question | function |", 1)[1].split("\n\n", 1)[0]
    for line in table.splitlines()[2:]:
        module = ""
        for word in re.findall(r"`([\w.]+)`", line):
            module, function = word.split(".") if not word.startswith(".") else (module, word[1:])
            assert callable(getattr(importlib.import_module(f"streamer.imaging.{module}"), function))
