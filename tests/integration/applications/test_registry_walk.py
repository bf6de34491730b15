"""Searched, looked into, pulled, pushed: by keyboard in the application, against a real registry.

Everything is pressed and read, as in the walk of a beginner; the proxy before the registry says
what went over the wire.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from tests.fault_proxy import Fault, FaultProxy, Request
from tests.integration.applications.test_beginner_walk import SIZES, Walker
from tests.registries import PASSWORD, USER, push_files, run_registry
from tests.tui.conftest import settled
from tui.app import LamellaApp

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StorePaths

pytestmark = pytest.mark.timeout(240)
BIG = 3_000_000
STALLS_AT = 2_000_000


def first_row(walker: Walker) -> str:
    """The row under the cursor of the box on top."""
    return next(line for line in walker.screen.splitlines() if "│  ▌" in line)


async def search(walker: Walker, term: str) -> None:
    await walker.use("P", "pull", "Look for images in registries, look into them, and pull them")
    await walker.sees("name or word, then enter")
    await walker.types(f"{term}\n")
    await walker.sees(f"1 found for {term.rpartition(':')[0]}")


async def look_into(walker: Walker, proxy: FaultProxy, name: str) -> None:
    """From the search by tags to steps, files and one of these, and back to the tags."""
    assert "t tags" in walker.screen
    await walker.press("t")
    await walker.sees("Tags of")
    await walker.sees("▌1 ")
    assert "enter look into it" in walker.screen
    await walker.press("enter")
    await walker.sees("3 layers  3.1 MB  3.1 MB to fetch")
    await walker.sees("/none")
    assert name in walker.screen
    assert "enter files" in walker.screen
    await walker.press("j", "enter")
    await walker.sees("+   small")
    assert "50.0 kB" in walker.screen
    # Its layer came for the list.
    proxy.requests.clear()
    assert "enter view" in walker.screen
    await walker.press("enter")
    await walker.sees("/small  50.0 kB  not text")
    assert proxy.requests == []
    await walker.press("escape")
    await walker.sees("+   small")
    await walker.press("escape")
    await walker.sees("to fetch")
    await walker.press("escape")
    await walker.sees("Tags of")


async def cancel_and_pull_again(walker: Walker, proxy: FaultProxy, name: str) -> None:
    def stalls(request: Request) -> Fault | None:
        is_blob = "/blobs/" in request.path and request.method == "GET"
        # Smaller ones are over before.
        return Fault(stalls_at=STALLS_AT) if is_blob else None

    proxy.plan = stalls
    assert "P pull" in walker.screen
    await walker.press("P")
    await walker.until(
        lambda: walker.screen.count(" Download complete") == 2 and " Downloading " in walker.screen,
        "big layer that stands still, alone",
    )
    assert "0 of 3 layers" in walker.screen
    assert "of 3.1 MB" in walker.screen
    assert "b go on in the background" in walker.screen
    await walker.press("b")
    await walker.sees("Tags of")
    await walker.press("escape", "escape")
    await walker.sees("1 in background (B)")
    await walker.press("B")
    await walker.sees(" Downloading ")
    assert "esc cancel" in walker.screen
    await walker.press("escape")
    await walker.sees(f"Cancelled: Pulling {name}")
    await walker.sees("What has arrived is kept: pull it again")
    await settled(walker.pilot)
    await walker.sees("No images here yet")
    proxy.plan = lambda _request: None
    proxy.requests.clear()
    proxy.sent_bytes = 0
    await search(walker, name)
    await walker.press("P")
    await walker.sees(f"Pulled {name}")
    await settled(walker.pilot)
    assert f"bytes={STALLS_AT}-" in {request.headers.get("range") for request in proxy.requests}
    # The rest of the big layer, documents and the list of names; no layer anew.
    assert proxy.sent_bytes < BIG - STALLS_AT + 10_000
    await walker.press("enter")
    await walker.sees("all of it is here")
    await walker.press("escape", "escape")
    await settled(walker.pilot)


async def push(walker: Walker, proxy: FaultProxy, name: str) -> None:
    await walker.sees("▌localhost")
    await walker.use("p", "push", "Give the image to a registry, under this name or another one")
    await walker.sees("Another name is given to the image here first")
    await walker.press("ctrl+u")
    await walker.types(f"{name}\n")
    await walker.sees(f"Pushed {name}: digest sha256:")
    await settled(walker.pilot)
    assert any(
        request.method == "PUT" and request.path.endswith("/manifests/2")
        for request in proxy.requests
    )
    await search(walker, name)
    await walker.press("enter")
    await walker.sees("all of it is here")


async def read_what_is_here(walker: Walker) -> None:
    """A file of the topmost layer of the image, which is here now."""
    await walker.press("1", "enter", "enter")
    await walker.sees("note")
    await settled(walker.pilot)
    await walker.press("enter")
    await walker.sees("/note  30.0 kB  not text")
    await walker.sees("00000000  ")
    await walker.press("escape")
    await settled(walker.pilot)


async def delete(walker: Walker, address: str) -> None:
    """What was pushed, found by the registry's address alone."""
    await walker.press("P")
    await walker.sees("name or word, then enter")
    await walker.types(f"{address}\n")
    await walker.sees(f"2 found for {address}")
    assert f"{address}/copy" in first_row(walker)
    await walker.press("t")
    await walker.sees("▌2 ")
    await walker.press("d")
    await walker.sees("Delete from the registry?")
    assert "y delete" in walker.screen
    await walker.press("y")
    await walker.sees(f"Deleted {address}/copy:2 from its registry")
    await walker.sees("It has no tags")


@pytest.mark.parametrize("size", SIZES, ids=["120x40", "80x24"])
async def test_an_image_is_searched_looked_into_pulled_and_pushed_by_keyboard(
    store_paths: StorePaths, tmp_path: Path, size: tuple[int, int]
) -> None:
    noise = random.Random(1).randbytes(BIG)
    layers = ({"big": noise}, {"small": noise[:50_000]}, {"note": noise[:30_000]})
    with (
        run_registry(tmp_path / "registry") as registry,
        FaultProxy(registry.address).running() as proxy,
    ):
        push_files(f"{registry.address}/walk:1", *layers)
        name = f"{proxy.address}/walk:1"
        app = LamellaApp(lambda: open_engine(root=store_paths.root, run=store_paths.run))
        async with app.run_test(size=size, notifications=True) as pilot:
            walker = Walker(pilot)
            await walker.sees("No images here yet")
            await settled(pilot)
            await search(walker, name)
            assert name in first_row(walker)
            await look_into(walker, proxy, name)
            await cancel_and_pull_again(walker, proxy, name)
            await push(walker, proxy, f"{proxy.address}/copy:2")
            await walker.press("escape", "escape")
            await settled(pilot)
            await read_what_is_here(walker)
            await delete(walker, proxy.address)


async def test_a_guarded_registry_is_told_who_one_is_when_it_asks(
    store_paths: StorePaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    with run_registry(tmp_path / "registry", has_passwords=True) as registry:
        name = f"{registry.address}/walk:1"
        async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
            image_id = (await engine.make_starter_image()).image_id
            await engine.tag_image("starter", name)
        app = LamellaApp(lambda: open_engine(root=store_paths.root, run=store_paths.run))
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            walker = Walker(pilot)
            await walker.sees("▌")
            await settled(pilot)
            assert app.dashboard.images.move_to_key(f"{image_id} {name}")
            await walker.use(
                "p", "push", "Give the image to a registry, under this name or another one"
            )
            await walker.sees("Another name is given")
            await walker.press("enter")
            await walker.sees("Log in")
            await walker.sees(registry.address)
            await walker.types(USER)
            await walker.press("tab")
            await walker.types("wrong\n")
            await walker.sees("unauthorized")
            await walker.types(f"{PASSWORD}\n")
            await walker.sees(f"Logged in to {registry.address} as {USER}")
            await walker.sees(f"Pushed {name}: digest sha256:")
            await settled(pilot)
    assert "auths" in (tmp_path / "docker" / "config.json").read_text()
