"""A container that swaps links in a volume while another one is put together with it.

The volume's `place` is a directory and a link that leads out of the root by turns (renameat2 with
RENAME_EXCHANGE, thousands of times a second), while mounts are made below it. The defence is that
the kernel resolves the path inside the root and the mount goes to what was opened. With a look for
links first and the path again afterwards the same rounds end outside, as the second case proves.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
ROUNDS = 1000

_SWAPPER = """
import os, sys
from engine.linux.libc import syscall
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
print("swaps", flush=True)
while True:
    syscall("renameat2", directory, b"place", directory, b"link", 2)
"""

_MOUNTER = """
import json, os, stat, sys
from engine.errors import EngineError
from engine.linux import files
from engine.linux.mounts import MS_PRIVATE, attach_mount, new_filesystem, set_root_propagation
from engine.linux.process import CLONE_NEWNS, leave_namespaces
from engine.runtime import mounting
from engine.runtime.spec import MountSpec

top, rounds, has_defence = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
leave_namespaces(CLONE_NEWNS)
set_root_propagation(MS_PRIVATE)
root_path = f"{top}/root"

if not has_defence:
    # What a mount by path does: look that no link is in the way, then use the path again.
    def naive_open(directory, path, flags, *, mode=0):
        start = part = os.readlink(f"/proc/self/fd/{directory}")
        whole = f"{start}/{os.fsdecode(path)}"
        for name in os.fsdecode(path).split("/"):
            part = f"{part}/{name}"
            if os.path.islink(part):
                raise PermissionError(40, "link")
        # Loses the race; by chance it is seldom lost where nothing runs beside.
        place = f"{root_path}/data/place"
        before = os.lstat(place).st_ino
        while os.lstat(place).st_ino == before:
            os.sched_yield()
        return os.open(whole, flags, mode)

    mounting.open_in_root = naive_open

proc = os.open(f"{root_path}/proc", os.O_PATH)
attach_mount(new_filesystem("proc"), proc)
if sys.argv[4] == "target":
    spec = MountSpec(kind="tmpfs", source="", target="/data/place/made")
else:
    source = f"{root_path}/data"
    spec = MountSpec(kind="bind", source=source, subpath="place/made", target="/mnt/made")
def round_of_mounts():
    # In a mount namespace of its own: 0 inside, 1 outside, 2 refused.
    leave_namespaces(CLONE_NEWNS)
    root = os.open(root_path, os.O_PATH | os.O_DIRECTORY)
    try:
        mounting.attach_mounts(root, mounting.open_sources((spec,)), ())
    except EngineError:
        return 2
    for line in open("/proc/self/mountinfo"):
        what, where = line.split(" ")[3:5]
        if where.endswith("/made"):
            return 1 if "/outside/" in what + where else 0
    return 3

counts = [0, 0, 0, 0]
for _ in range(rounds):
    child = os.fork()
    if child == 0:
        code = 4
        try:
            code = round_of_mounts()
        finally:
            os._exit(code)
    counts[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] += 1
print(json.dumps(dict(zip(("inside", "escaped", "refused", "lost"), counts))))
"""


@pytest.mark.root
@pytest.mark.parametrize("swapped", ["target", "subpath"])
@pytest.mark.parametrize("has_defence", [True, False])
def test_mounts_stay_inside_while_links_are_swapped(
    tmp_path: Path, has_defence: bool, swapped: str
) -> None:
    volume = tmp_path / "root" / "data"
    (volume / "place" / "made").mkdir(parents=True)
    for name in ("proc", "mnt"):
        (tmp_path / "root" / name).mkdir()
    (tmp_path / "outside" / "made").mkdir(parents=True)
    (volume / "link").symlink_to(tmp_path / "outside")
    swapper = subprocess.Popen(
        (sys.executable, "-c", _SWAPPER, str(volume)), cwd=CHECKOUT, stdout=subprocess.PIPE
    )
    try:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        rounds = ROUNDS if has_defence else ROUNDS // 20
        # Without the defence as many rounds as it takes.
        for _ in range(1 if has_defence else 20):
            done = subprocess.run(
                (
                    *(sys.executable, "-c", _MOUNTER),
                    *(str(tmp_path), str(rounds), str(has_defence), swapped),
                ),
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            counts = json.loads(done.stdout)
            if counts["escaped"]:
                break
    finally:
        swapper.send_signal(signal.SIGKILL)
        swapper.communicate()
    assert bool(counts["escaped"]) is not has_defence, counts
    if has_defence:
        assert counts["inside"] > 0, counts
