"""Programs that were recorded in tmux (tests/record_terminals.py): ours shows what tmux showed."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest

from engine.types import TerminalSize
from tui.terminal.emulator import BitttyModel
from tui.terminal.model import CursorPosition

RECORDINGS = sorted(Path(__file__).parent.glob("recordings/*.json.gz"))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name.partition(".")[0])
@pytest.mark.parametrize("chunk_bytes", [1_000_000, 61])
def test_a_recorded_program_is_shown_as_tmux_showed_it(path: Path, chunk_bytes: int) -> None:
    document = json.loads(gzip.decompress(path.read_bytes()))
    model = BitttyModel(TerminalSize(columns=document["columns"], rows=document["rows"]))
    checks = 0
    for step in document["steps"]:
        if "output" in step:
            data = base64.b64decode(step["output"])
            for start in range(0, len(data), chunk_bytes):
                model.feed(data[start : start + chunk_bytes])
        elif "resize" in step:
            columns, rows = step["resize"]
            model.resize(TerminalSize(columns=columns, rows=rows))
        else:
            assert screen(model) == [line.rstrip() for line in step["screen"]], checks
            column, row, is_shown = step["cursor"]
            # Behind the last column tmux has a place for the cursor that waits to wrap.
            expected = CursorPosition(column=min(column, model.size.columns - 1), row=row)
            assert model.cursor == (expected if is_shown else None), checks
            checks += 1
    assert checks > 3


def screen(model: BitttyModel) -> list[str]:
    first = model.screen_line
    return [
        "".join(run.text for run in model.row(first + y)).rstrip() for y in range(model.size.rows)
    ]


def test_every_program_is_recorded_at_both_sizes() -> None:
    names = {path.name.partition(".")[0] for path in RECORDINGS}
    programs = ("bash", "htop", "less", "resize", "top", "vim")
    assert names == {f"{name}-{size}" for name in programs for size in ("80x24", "120x40")}
