"""`make screenshots`: pictures of the real application over a real engine with the demo in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from textual.keys import _character_to_key

from engine.api import open_engine
from engine.types import (
    AttachmentRequest,
    ContainerRequest,
    MountRequest,
    NetworkOptions,
    NetworkRequest,
    NetworkSubnet,
    PublishedPort,
)
from tests.namespaces import Namespace
from tests.screenshot_builds import NAME, build_before, inside, make_context
from tests.screenshot_registry import (
    BYTES_PER_SECOND,
    MANY,
    NEW,
    OLD,
    REPOSITORY,
    picture_registry,
)
from tests.tui.conftest import screen_text, settled, wait_until
from tui.app import LamellaApp
from tui.screens.update_form import UpdateScreen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from engine.api import EngineApi

DIRECTORY = Path(__file__).resolve().parent.parent / "screenshots"
WIDE, NARROW = (120, 40), (80, 24)
HISTORY_SAMPLES = 12
LOG_LINES = 20
ARCHIVES = {
    "debian_bookworm.tar": 121_000_000,
    "web_1.3.tar.zst": 59_900_000,
    "web_1.4.tar.zst": 61_300_000,
    "rootfs.tar.gz": 31_400_000,
    "notes.txt": 1_840,
    ".cache": 12,
    "registry-mirror.oci.tar": 402_000_000,
}


def _has_log(app: LamellaApp) -> bool:
    return len(app.dashboard.detail.logs.buffer.lines) >= LOG_LINES


def _has_history(app: LamellaApp) -> bool:
    return len(app.dashboard._history._samples) >= HISTORY_SAMPLES


def _has_form(app: LamellaApp) -> bool:
    return isinstance(app.screen, UpdateScreen)


def _has_listing(app: LamellaApp) -> bool:
    return "index.html" in screen_text(app)


def _has_password(app: LamellaApp) -> bool:
    return "•" * len("secret") in screen_text(app)


def _is_offered(app: LamellaApp) -> bool:
    return "linux/arm/v7" in screen_text(app)


def _is_moving(app: LamellaApp) -> bool:
    return " left " in screen_text(app)


def _is_building(app: LamellaApp) -> bool:
    return "78 %" in screen_text(app)


def _has_failed(app: LamellaApp) -> bool:
    return "x failed" in screen_text(app) and "e opens a shell" in screen_text(app)


def _is_built(app: LamellaApp) -> bool:
    return "+ done" in screen_text(app).split("\n", 2)[1]


def _is_ready(_app: LamellaApp) -> bool:
    return True


def keys_of(text: str) -> tuple[str, ...]:
    """What is pressed to type a text."""
    return tuple(_character_to_key(character) for character in text)


# Name: size, keys pressed before the picture is taken, what it waits for. `G` in the containers is
# the oldest one: the server.
Scene = tuple[tuple[int, int], tuple[str, ...], "Callable[[LamellaApp], bool]"]
_SEARCHED = ("P", *keys_of(REPOSITORY), "enter")
_LOOKED_INTO = ("P", *keys_of(NEW), "enter", "enter")


def _built(dockerfile: str) -> tuple[str, ...]:
    return ("b", *keys_of(NAME), "shift+tab", *keys_of(dockerfile), "enter")


SCENES: dict[str, Scene] = {
    "main": (WIDE, ("3", "G"), _has_log),
    "files": (WIDE, ("1", "enter", "enter"), _is_ready),
    "changes": (WIDE, ("3", "G", "up", "2", "g", "enter"), _is_ready),
    "logs": (WIDE, ("3", "G", "enter", "t", "plus"), _has_log),
    "stats": (WIDE, ("3", "G", "4", "right_square_bracket"), _has_history),
    "run": (
        WIDE,
        (
            "1",
            "r",
            *"web-2",
            *["tab"] * 3,
            *keys_of("8080:80"),
            *["tab"] * 2,
            *"64m",
            "tab",
            *"0.5",
        ),
        _is_ready,
    ),
    "change": (WIDE, ("3", "G", "u"), _has_form),
    "commit": (
        WIDE,
        ("3", "G", "c", *"web:patched", "tab", *"Ada", "tab", *"new welcome page"),
        _has_log,
    ),
    "remove": (WIDE, ("3", "G", "d"), _has_log),
    "palette": (WIDE, ("3", "colon", *"cont"), _is_ready),
    "help": (WIDE, ("3", "question_mark"), _is_ready),
    "volumes": (WIDE, ("v",), _is_ready),
    "narrow-volumes": (NARROW, ("v",), _is_ready),
    "narrow-containers": (NARROW, ("3",), _is_ready),
    "narrow-files": (NARROW, ("1", "enter", "enter"), _is_ready),
    "terminal": (
        WIDE,
        ("3", "G", "e", *"ls", "space", "minus", *"la", "space", "full_stop", "enter"),
        _has_listing,
    ),
    "registry": (WIDE, _SEARCHED, _is_ready),
    "peek": (WIDE, _LOOKED_INTO, _is_ready),
    "pull": (WIDE, (*_LOOKED_INTO, "P"), _is_moving),
    "push": (WIDE, ("1", "p"), _is_ready),
    "narrow-peek": (NARROW, _LOOKED_INTO, _is_ready),
    "narrow-pull": (NARROW, (*_LOOKED_INTO, "P"), _is_moving),
    "tags": (WIDE, (*_SEARCHED, "t"), _is_ready),
    "platform": (WIDE, ("P", *keys_of(MANY), "enter", "enter", "p"), _is_offered),
    "login": (
        WIDE,
        ("1", "l", *keys_of("registry:5000"), "tab", *"ada", "tab", *"secret"),
        _has_password,
    ),
    "view": (
        WIDE,
        ("1", "slash", *"demo", "enter", "enter", "j", "enter", "G", "enter"),
        _is_ready,
    ),
    "load": (WIDE, ("1", "L"), _is_ready),
    "narrow-load": (NARROW, ("1", "L"), _is_ready),
    "save": (WIDE, ("1", "S", "right"), _is_ready),
    "import": (WIDE, ("1", "I", "G", "k", "k", "enter"), _is_ready),
    "networks": (WIDE, ("5",), _is_ready),
    "narrow-networks": (NARROW, ("5",), _is_ready),
    "network": (
        WIDE,
        ("5", "c", *"shop", "tab", *keys_of("10.9.0.0/24"), "tab", "tab", "tab", "space"),
        _is_ready,
    ),
    "ports": (WIDE, ("3", "plus"), _is_ready),
    "connection": (WIDE, ("3", "down", "down", "i", "plus", *["j"] * 28), _is_ready),
    "build": (WIDE, _built("slow.dockerfile"), _is_building),
    "build-form": (WIDE, _built("slow.dockerfile")[:-1], _is_ready),
    "build-failed": (WIDE, _built("failing.dockerfile"), _has_failed),
    "build-graph": (WIDE, (*_built("stages.dockerfile"), "tab"), _is_built),
    "narrow-build": (NARROW, _built("slow.dockerfile"), _is_building),
    "light": (WIDE, ("3", "G"), _has_log),
}
OF_NETWORKS = ("networks", "narrow-networks", "network", "ports", "connection")
OF_BUILDS = ("build", "build-form", "build-failed", "build-graph", "narrow-build")
HOST_NAME = "tower"
OF_A_REGISTRY = (
    "registry",
    "tags",
    "platform",
    "peek",
    "pull",
    "push",
    "narrow-peek",
    "narrow-pull",
)
UNSETTLED = {
    "pull": "P",
    "narrow-pull": "P",
    "platform": "p",
    "login": "l",
    "build": "enter",
    "narrow-build": "enter",
}
"""What the last such key began goes on while the picture is taken: layers move, a form waits."""


async def picture(name: str, top: Path) -> None:
    """Open the application, press the scene's keys, write the SVG."""
    size, keys, is_ready = SCENES[name]

    def opener() -> AbstractAsyncContextManager[EngineApi]:
        return open_engine(root=top / "root", run=top / "run")

    app = LamellaApp(opener)
    async with app.run_test(size=size) as pilot:
        app.theme = "lamella-light" if name == "light" else "lamella-dark"
        await settled(pilot)
        last = UNSETTLED.get(name)
        goes_on_at = len(keys) if last is None else len(keys) - 1 - keys[::-1].index(last)
        for position, key in enumerate(keys):
            await pilot.press(key)
            if position < goes_on_at:
                await settled(pilot)
        await wait_until(pilot, lambda: is_ready(app))
        if name not in UNSETTLED:
            await settled(pilot)
        drawing = app.export_screenshot(title="lamella", simplify=True)
    # Textual gives every picture's styles a number of their own: one less thing that differs.
    drawing = re.sub(r"terminal-\d+-", "terminal-", drawing)
    # No font from elsewhere; and blanks at the beginning of a text stay in every renderer.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    drawing = drawing.replace("Fira Code, monospace", "'Fira Code', 'DejaVu Sans Mono', monospace")
    drawing = drawing.replace("<svg ", '<svg xml:space="preserve" ', 1)
    # What mkdtemp drew, in as many letters.
    drawing = drawing.replace(top.name, "lamella-shots-archives")
    (DIRECTORY / f"{name}.svg").write_text(drawing.rstrip() + "\n")


def make_archives(directory: Path) -> None:
    """Make a directory as people have it where they keep archives; the files are holes."""
    (directory / "layouts").mkdir(parents=True)
    for days, (name, size_bytes) in enumerate(ARCHIVES.items(), 1):
        with (directory / name).open("wb") as file:
            file.truncate(size_bytes)
        changed_at = time.time() - days * 86_400 - 3_600
        os.utime(directory / name, (changed_at, changed_at))


async def make_volumes(engine: EngineApi) -> None:
    """Make some volumes: two that a container has, filled from its image, and one that none has."""
    mounts = (
        MountRequest(kind="volume", source="site", target="/usr"),
        MountRequest(kind="volume", source="", target="/etc"),
    )
    await engine.create_container(ContainerRequest(image="starter", name="files", mounts=mounts))
    await engine.create_volume("backup")


async def picture_builds(engine: EngineApi, top: Path, names: list[str]) -> None:
    """Take the pictures of builds, with one of the same name before them."""
    if not names:
        return
    context = top / "shop"
    make_context(context)
    await build_before(engine, context)
    with inside(context):
        for name in names:
            await picture(name, top)


async def picture_networks(engine: EngineApi, top: Path, names: list[str]) -> None:
    """Take the pictures of networks, with a shop that is in two of them."""
    if not names:
        return
    for name, subnet, is_internal in (
        ("frontend", "10.80.16.0/24", False),
        ("storage", "10.80.17.0/24", True),
    ):
        subnets = (NetworkSubnet(subnet=subnet, gateway=""),)
        await engine.create_network(
            NetworkRequest(name=name, subnets=subnets, is_internal=is_internal)
        )
    front, back = (AttachmentRequest(network=name) for name in ("frontend", "storage"))
    page = PublishedPort(container_port=80, host_port=8080)
    admin = PublishedPort(container_port=9000, host_port=9000, host_address="127.0.0.1")
    for name, attachments, ports in (
        ("cache", (AttachmentRequest(network="storage", aliases=("redis",)),), ()),
        ("shop", (front, back), (page, admin)),
        ("proxy", (front,), (PublishedPort(container_port=443, host_port=8443),)),
    ):
        request = ContainerRequest(
            image="starter",
            name=name,
            command=("sleep", "infinity"),
            network=NetworkOptions(attachments=attachments, published_ports=ports),
        )
        await engine.start_container((await engine.create_container(request)).container_id)
    shared = ContainerRequest(
        image="starter",
        name="metrics",
        command=("sleep", "infinity"),
        network=NetworkOptions(mode="container:shop"),
    )
    await engine.start_container((await engine.create_container(shared)).container_id)
    for name in names:
        await picture(name, top)


async def picture_registries(engine: EngineApi, top: Path, names: list[str]) -> None:
    """Take the pictures that need a registry, with the lower layers of an image here."""
    if not names:
        return
    with picture_registry(top) as proxy:
        await engine.pull_image(OLD)
        proxy.bytes_per_second = BYTES_PER_SECOND
        for name in names:
            await picture(name, top)


async def take_all(top: Path, names: list[str]) -> None:
    """Make the demo, take the pictures, remove the demo's containers."""
    async with open_engine(root=top / "root", run=top / "run") as engine:
        await engine.make_demo()
        await make_volumes(engine)
        make_archives(top / "archives")
        os.chdir(top / "archives")
        try:
            for name in names:
                if name not in (*OF_A_REGISTRY, *OF_NETWORKS, *OF_BUILDS):
                    await picture(name, top)
            await picture_builds(engine, top, [one for one in names if one in OF_BUILDS])
            await picture_networks(engine, top, [one for one in names if one in OF_NETWORKS])
            await picture_registries(engine, top, [one for one in names if one in OF_A_REGISTRY])
        finally:
            for summary in await engine.list_containers():
                await engine.remove_container(
                    summary.container_id, is_forced=True, removes_volumes=True
                )


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Take no port of this host's, and leave no bridge on it; its name is in no picture."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("socket.gethostname", return_value=HOST_NAME))
        if os.geteuid() == 0:
            namespace = stack.enter_context(contextlib.closing(Namespace("pictures")))
            stack.enter_context(namespace.entered())
        yield


def main(names: list[str]) -> int:
    """Take the named pictures, or all."""
    DIRECTORY.mkdir(exist_ok=True)
    top = Path(tempfile.mkdtemp(prefix="lamella-shots-", dir="/tmp"))
    try:
        with own_network():
            asyncio.run(take_all(top, names or list(SCENES)))
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
