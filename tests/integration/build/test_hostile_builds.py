"""Builds that mean harm: by their Dockerfile, their context, their base, or what a step does."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import BuildStepError, EngineError
from engine.types import BuildRequest
from tests.command_line import CommandLine
from tests.integration.images.loading import HOST
from tests.programs import installed_program
from tests.staging import left_in_staging
from tests.unit.snapshots.tars import END, directory, entry

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import BuiltImage
    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

STAGES = 1000
FLOOD_MEGABYTES = 1024
MOST_GROWTH_KILOBYTES = 150 << 10
FORKS = 10_000
MOST_LAYERS = 500
ODD = "\x1b]0;owned\x07\x1b[31mred\nnext"


async def build(engine: EngineApi, text: str, context: Path | None = None) -> BuiltImage:
    return await engine.build_image(
        BuildRequest(dockerfile_content=text.encode(), context=context, network="none")
    )


async def outcome(engine: EngineApi, text: str, context: Path | None = None) -> str:
    """What a build fails with; nothing if it does not."""
    try:
        await build(engine, text, context)
    except EngineError as error:
        return error.message
    return ""


async def is_clean(engine: EngineApi, store: StorePaths) -> None:
    assert (await engine.check_store()).problems == ()
    # What waits for the next build has no need to.
    await engine._close_builds()  # type: ignore[attr-defined]
    assert left_in_staging(store.root) == []
    assert list((store.run / "containers").glob("*")) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("base", "step"),
    [("s{}", "ENV A{}=1"), ("scratch", "COPY --from=s{} /x /x")],
    ids=["on each other", "copying from each other"],
)
async def test_a_thousand_stages_are_built(base, step, engine, store_paths):
    stages = [
        f"FROM {base.format(number - 1)} AS s{number}\n{step.format(number - 1)}\n"
        for number in range(1, STAGES)
    ]
    built = await build(engine, "FROM starter AS s0\nRUN echo x > /x\n" + "".join(stages))

    assert built.step_count >= STAGES
    await is_clean(engine, store_paths)


async def test_more_layers_than_can_be_mounted_are_said_to_be_too_many(
    engine, store_paths, tmp_path
):
    await engine.load_images(archive_of(tmp_path / "deep.tar", {}, layer_count=MOST_LAYERS))

    assert "max depth exceeded" in await outcome(engine, 'FROM hostile:1\nRUN ["/x"]\n')
    await is_clean(engine, store_paths)


async def test_a_flood_of_output_is_kept_in_bounds(engine, store_paths):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    heard = []
    script = f"dd if=/dev/zero bs=1048576 count={FLOOD_MEGABYTES} 2>/dev/null; echo; echo the end"
    await engine.build_image(
        BuildRequest(dockerfile_content=f"FROM starter\nRUN {script}\n".encode(), network="none"),
        listener=lambda event: heard.append(len(getattr(event, "data", b""))),
    )

    assert sum(heard) > FLOOD_MEGABYTES << 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_GROWTH_KILOBYTES
    (last, *_earlier) = await engine.list_builds()
    log = await engine.read_step_log(last.build_id, 1)
    assert log.rstrip().endswith(b"the end")
    await is_clean(engine, store_paths)


@pytest.mark.root
async def test_a_step_that_forks_without_end_meets_a_limit_and_leaves_no_process(
    engine, store_paths
):
    if any(one.name == "cgroup pids" and not one.is_available for one in engine.host.features):
        pytest.skip("this host cannot limit processes (`lamella info`)")
    script = f"i=0; while [ $i -lt {FORKS} ]; do sleep 1000 & i=$((i+1)); done; echo all"
    with pytest.raises(BuildStepError) as failed:
        await build(engine, f"FROM starter\nRUN {script}\n")

    assert failed.value.step_exit_code
    await is_clean(engine, store_paths)


async def test_what_a_step_calls_its_files_does_nothing_to_the_terminal(store_paths, tmp_path):
    name = ODD + "x" * (255 - len(ODD))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / name).write_text("one")
    (tmp_path / "Dockerfile").write_text(
        "FROM starter\nCOPY site /site\n"
        "RUN cat /proc/sys/kernel/random/uuid > /site/*; printf '\\033]0;owned\\007said\\n'\n"
        "RUN echo '\x1b]0;owned\x07' > /dev/null\n"
    )
    lamella = CommandLine(store_paths)
    words = ("build", "--network", "none", "--no-cache", "--progress", "plain", str(tmp_path))
    said = b""
    for _turn in range(2):
        (tmp_path / "site" / name).write_text(f"{_turn}")
        done = lamella(*words)
        assert done.returncode == 0
        said += done.stderr
    (tmp_path / "Dockerfile").write_text("FROM starter\nCOPY mis\x1b]0;owned\x07sing /\n")
    done = lamella(*words)
    assert done.returncode == 1
    said += done.stderr

    assert b"said" in said
    assert b"\x1b" not in said
    assert b"\x07" not in said


async def test_a_link_in_the_place_of_a_file_of_the_engine_leads_nowhere(
    engine, store_paths, tmp_path
):
    victim = tmp_path / "victim"
    victim.write_text("of the host")
    victim.chmod(0o600)
    (tmp_path / "etc").mkdir()
    for name in ("resolv.conf", "hosts", "hostname"):
        (tmp_path / "etc" / name).symlink_to(victim)
    text = (
        "FROM starter\nCOPY etc /etc\n"
        "RUN echo changed > /etc/resolv.conf || true; cat /etc/hosts > /seen\n"
        f"RUN rm -f /etc/resolv.conf; ln -s {victim} /etc/resolv.conf || true; "
        "echo changed > /etc/hosts || true; cat /etc/resolv.conf > /seen-too || true\n"
    )
    # A mount point that cannot be had is said, and nothing else goes wrong.
    said = await outcome(engine, text, tmp_path)
    assert not said or said.startswith(("cannot set up", "process"))
    assert victim.read_text() == "of the host"
    assert not [
        path
        for path in (store_paths.root / "layers").glob("*/diff/**/*")
        if path.is_file() and not path.is_symlink() and path.read_bytes() == b"of the host"
    ]
    await is_clean(engine, store_paths)


async def test_a_context_of_links_pipes_and_sockets_gives_files_only(engine, store_paths, tmp_path):
    import socket

    top = tmp_path / "site"
    top.mkdir()
    (top / "file").write_text("file")
    (top / "out").symlink_to("/etc/shadow")
    (top / "up").symlink_to("../../../../../../etc/shadow")
    (top / "self").symlink_to("self")
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(top)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        await build(engine, "FROM starter\nCOPY site /site\nRUN test ! -e /site/socket\n", tmp_path)
        for hostile in ("site/out", "site/up", "site/self", "../../../etc/shadow"):
            with pytest.raises(EngineError) as failed:
                await build(engine, f"FROM starter\nCOPY {hostile} /x\n", tmp_path)
            assert "not found" in failed.value.message
    await is_clean(engine, store_paths)


def archive_of(path: Path, config: dict[str, object], *, layer_count: int = 1) -> Path:
    """An image `hostile:1` with a configuration, each of its layers the same directory."""
    layer = directory(b"bin", owner=0) + END
    diff_id = f"sha256:{sha256(layer).hexdigest()}"
    rootfs = {"type": "layers", "diff_ids": [diff_id] * layer_count}
    document = {"architecture": HOST, "os": "linux", "rootfs": rootfs, "config": config}
    item = {
        "Config": "config.json",
        "RepoTags": ["hostile:1"],
        "Layers": ["layer.tar"] * layer_count,
    }
    path.write_bytes(
        entry(b"manifest.json", json.dumps([item]).encode())
        + entry(b"config.json", json.dumps(document).encode())
        + entry(b"layer.tar", layer)
        + END
    )
    return path


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"OnBuild": ["ONBUILD RUN true"]}, "ONBUILD"),
        ({"OnBuild": ["FROM starter"]}, "FROM"),
        ({"OnBuild": ["\x1b]0;owned\x07"]}, "unknown instruction"),
        ({"OnBuild": ["COPY --from=hostile:1 /nothing /"]}, "not found"),
        ({"OnBuild": [f"ENV A{number}=1" for number in range(10_000)]}, "10,000 ONBUILD triggers"),
        ({"OnBuild": ["RUN " + "x" * 1_000_000]}, "greater than max"),
        ({"Env": [f"A{number}={'x' * 1000}" for number in range(3000)]}, ""),
        ({"Env": ["=", "", "NO", "\0=\0"], "User": "\0", "WorkingDir": "../../.."}, ""),
    ],
    ids=["nested", "stage", "nonsense", "itself", "many", "long", "large", "odd"],
)
async def test_a_hostile_base_is_taken_or_refused_with_a_sentence(
    config, said, engine, store_paths, tmp_path
):
    try:
        await engine.load_images(archive_of(tmp_path / "hostile.tar", config))
    except EngineError:
        assert not said, "it cannot even be loaded"
        return
    message = await outcome(engine, "FROM hostile:1\nLABEL a=b\n")
    assert bool(message) is bool(said), message
    assert said in message
    assert "\n" not in message
    await is_clean(engine, store_paths)


@pytest.fixture
def with_busybox(tmp_path: Path) -> Path:
    """A context with a program that makes device nodes."""
    directory = tmp_path / "with-busybox"
    directory.mkdir()
    shutil.copy(installed_program("busybox"), directory / "busybox")
    return directory


def disk_node() -> str:
    """What leads to the disk of the host's root, for mknod."""
    device = os.stat("/").st_dev
    return f"b {os.major(device)} {os.minor(device)}"


@pytest.mark.root
async def test_a_device_node_that_a_step_makes_opens_nothing(
    engine: EngineApi, with_busybox: Path
) -> None:
    text = (
        "FROM starter\nCOPY busybox /busybox\n"
        f"RUN /busybox mknod /disk {disk_node()} && ! head -c 1 /disk 2> /said\n"
        "RUN grep -q 'Operation not permitted' /said && ! head -c 1 /disk\n"
    )
    assert await outcome(engine, text, with_busybox) == ""


# In a mount namespace of its own, without the control groups that keep devices closed.
_WITHOUT_GROUPS = """
import asyncio, ctypes, sys
from pathlib import Path
from engine.api import open_engine
from engine.errors import BuildStepError
from engine.types import BuildRequest

libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
assert libc.umount2(b"/sys/fs/cgroup", 2) == 0

async def main():
    root, run, context, text = sys.argv[1:]
    async with open_engine(root=Path(root), run=Path(run)) as engine:
        request = BuildRequest(
            dockerfile_content=text.encode(), context=Path(context), network="none"
        )
        try:
            await engine.build_image(request)
        except BuildStepError as error:
            print(error.line)

asyncio.run(main())
"""


@pytest.mark.root
async def test_where_devices_cannot_be_kept_closed_a_step_makes_no_node(
    store_paths: StorePaths, with_busybox: Path
) -> None:
    text = f"FROM starter\nCOPY busybox /\nRUN true\nRUN /busybox mknod /disk {disk_node()}\n"
    done = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", _WITHOUT_GROUPS, str(store_paths.root), str(store_paths.run),
         str(with_busybox), text),
        cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr


@pytest.mark.parametrize("path", ["/proc/interrupts", "/proc/sys/kernel/hostname", "/proc/uptime"])
async def test_a_link_of_an_image_leads_no_mount_into_proc(path, engine, tmp_path):
    (tmp_path / "file").write_text("made up")
    told = await outcome(
        engine,
        f"FROM starter\nRUN ln -s {path} /k\nRUN --mount=type=bind,source=file,target=/k cat /k\n",
        tmp_path,
    )

    # It tells of the host, and may be covered.
    expected = "" if path == "/proc/uptime" else "cannot be mounted because it is inside /proc"
    assert expected in told
    assert bool(told) is bool(expected)


async def test_what_is_hidden_of_sys_is_hidden_under_a_mount_too(engine):
    told = await outcome(
        engine,
        "FROM starter\nRUN --mount=type=tmpfs,target=/sys/firmware touch /sys/firmware/x\n",
    )

    assert "did not complete successfully" in told
