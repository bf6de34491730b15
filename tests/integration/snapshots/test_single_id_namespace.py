from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_UNPACK = """
import pathlib, sys
from tests.unit.snapshots.tars import END, Layer, entry, header
layer = Layer(pathlib.Path(sys.argv[1]))
result = layer.unpack(
    header(b"null", flag=b"3", device=(1, 3), mode=0o666)
    + entry(b"program", b"x", mode=0o4755, owner=1000)
    + END
)
print(oct((layer.diff / "program").stat().st_mode), (layer.diff / "null").stat().st_size)
print("\\n".join(result.warnings))
"""


def test_what_one_id_cannot_own_is_roots_and_loses_setuid(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare (util-linux) is not installed")
    if subprocess.run(["unshare", "-U", "-r", "true"], check=False).returncode:
        pytest.skip("this host does not let this user make user namespaces")
    done = subprocess.run(
        ["unshare", "-U", "-r", sys.executable, "-c", _UNPACK, str(tmp_path / "layer")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "0o100755 0",
        "device files cannot be made without root; empty files stand in for them",
        "some owners are not available to this user; root owns those files instead",
    ]
