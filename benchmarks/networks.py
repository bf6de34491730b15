"""Rows about networks: how fast containers reach the host, and are reached at published ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.containers import podman_with_image, small_engine, start_many, timed, working_peers
from benchmarks.measure import Clock, Figure, Result, Timed, compare, interleave
from benchmarks.place import IMAGE, PeerMissingError, Place, run
from engine.types import AttachmentRequest, ContainerRequest, NetworkOptions, PublishedPort
from tests.namespaces import Namespace, connect_namespaces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from engine.api import EngineApi

_ROUNDS = 9
_STARTS = 12
_BYTES = 512 << 20
_CHUNK_BYTES = 1 << 20
_INSIDE_PORT = 5000
_MACHINE = "198.51.100.1"
_OUTSIDE = "198.51.100.2"


@dataclass(frozen=True)
class _Box:
    """A container that runs, its address, and the port of the host that leads to it."""

    inside: Namespace
    address: str
    gateway: str
    host_port: int


class _Inside(Namespace):
    """The network namespace of a process."""

    def __init__(self, process_id: int) -> None:
        self.name = str(process_id)
        self.descriptor = os.open(f"/proc/{process_id}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


async def network(place: Place) -> Result:
    """Throughput out of a container and to a published port, and a start with a network."""
    if os.geteuid() != 0:
        raise PeerMissingError("only root makes bridges")
    result = Result()
    with _hosts() as (machine, outside):
        async with contextlib.AsyncExitStack() as stack:
            engine = await stack.enter_async_context(small_engine(place))
            boxes = {"lamella": await stack.enter_async_context(_our_box(engine))}
            try:
                boxes["podman"] = await stack.enter_async_context(_podman_box(place))
            except (PeerMissingError, OSError) as error:
                result.skipped.append(f"podman: {error}")
            for what, side in (
                ("container to host", partial(_to_host, machine)),
                ("outside to a published port", partial(_to_port, outside, _MACHINE)),
                ("127.0.0.1 to a published port", partial(_to_port, machine, "127.0.0.1")),
            ):
                sides = {name: partial(side, box) for name, box in boxes.items()}
                result.figures += compare(
                    what,
                    await interleave(sides, rounds=_ROUNDS),
                    unit="Gbit/s",
                    scale=1.0,
                    is_better_when_lower=False,
                )
            result.figures += await _starts(place, engine, result)
            on_bridge = NetworkOptions(attachments=(AttachmentRequest(network="bridge"),))
            await start_many(engine, on_bridge, result)
    return result


@contextlib.contextmanager
def _hosts() -> Iterator[tuple[Namespace, Namespace]]:
    """A machine and somebody outside, as namespaces; the machine is where we are meanwhile."""
    with (
        contextlib.closing(Namespace("machine")) as machine,
        contextlib.closing(Namespace("outside")) as outside,
    ):
        connect_namespaces(outside, "uplink", machine, "uplink")
        machine.add_address("uplink", f"{_MACHINE}/24")
        outside.add_address("uplink", f"{_OUTSIDE}/24")
        with machine.entered():
            yield machine, outside


@contextlib.asynccontextmanager
async def _our_box(engine: EngineApi) -> AsyncIterator[_Box]:
    port = 18001
    published = PublishedPort(container_port=_INSIDE_PORT, host_port=port)
    made = await engine.create_container(
        ContainerRequest(
            image=IMAGE,
            command=("sleep", "3600"),
            network=NetworkOptions(published_ports=(published,)),
        )
    )
    await engine.start_container(made.container_id)
    details = await engine.inspect_container(made.container_id)
    assert details.process_id is not None
    (attachment,) = details.attachments
    with contextlib.closing(_Inside(details.process_id)) as inside:
        yield _Box(inside, attachment.ipv4_address.partition("/")[0], attachment.ipv4_gateway, port)


@contextlib.asynccontextmanager
async def _podman_box(place: Place) -> AsyncIterator[_Box]:
    words, environment = await podman_with_image(place)
    name, port = "bench-network", 18002
    published = f"{port}:{_INSIDE_PORT}"
    await run(
        *words, "run", "-d", "--name", name, "-p", published, IMAGE, "sleep", "3600",
        environment=environment,
    )  # fmt: skip
    try:
        wanted = "{{.State.Pid}} {{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}}"
        told = await run(*words, "inspect", "-f", wanted, name, environment=environment)
        process_id, address, gateway = told.decode().split()
        with contextlib.closing(_Inside(int(process_id))) as inside:
            yield _Box(inside, address, gateway, port)
    finally:
        await run(*words, "rm", "-f", "-t", "0", name, environment=environment)


# --- throughput -------------------------------------------------------------------------------


async def _to_host(machine: Namespace, box: _Box) -> float:
    with machine.listen(box.gateway, 0) as listener:
        port = listener.getsockname()[1]
        return await _throughput(listener, box.inside, (box.gateway, port))


async def _to_port(source: Namespace, address: str, box: _Box) -> float:
    with box.inside.listen("0.0.0.0", _INSIDE_PORT) as listener:
        return await _throughput(listener, source, (address, box.host_port))


async def _throughput(
    listener: socket.socket, source: Namespace, address: tuple[str, int]
) -> float:
    sending = source.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    with sending:
        sending.setblocking(True)
        listener.setblocking(True)
        return await asyncio.to_thread(_transfer, listener, sending, address)


def _transfer(listener: socket.socket, sending: socket.socket, address: tuple[str, int]) -> float:
    """Gigabits a second from one socket to who listens on the other."""
    sending.connect(address)
    receiving, _peer = listener.accept()
    with receiving:
        clock = Clock()
        sender = threading.Thread(target=_send, args=(sending,))
        sender.start()
        buffer = bytearray(_CHUNK_BYTES)
        received = 0
        while count := receiving.recv_into(buffer):
            received += count
        seconds = clock.seconds
        sender.join()
    assert received == _BYTES
    return received * 8 / seconds / 1e9


def _send(sending: socket.socket) -> None:
    chunk = bytes(_CHUNK_BYTES)
    for _part in range(_BYTES // _CHUNK_BYTES):
        sending.sendall(chunk)
    sending.shutdown(socket.SHUT_WR)


# --- starts -----------------------------------------------------------------------------------


async def _starts(place: Place, engine: EngineApi, result: Result) -> list[Figure]:
    """What a network adds to a start of ours, and what all of it takes beside podman."""
    figures: list[Figure] = []
    kinds = {
        "lamella": NetworkOptions(attachments=(AttachmentRequest(network="bridge"),)),
        "lamella, no network": NetworkOptions(mode="none"),
    }
    answers = await interleave(
        {name: partial(_start, engine, options) for name, options in kinds.items()},
        rounds=_STARTS,
    )
    figures += compare("start with the default network", answers)
    peers: dict[str, Timed] = {}
    with contextlib.suppress(PeerMissingError):
        words, environment = place.podman
        peers["podman run"] = timed(*words, "run", "--rm", IMAGE, "true", environment=environment)
    sides = {
        "lamella": timed(*place.lamella, "run", "--rm", "--network", "bridge", IMAGE, "true"),
        **await working_peers(result, peers),
    }
    figures += compare(
        "`run --rm IMAGE true` with a network", await interleave(sides, rounds=_STARTS)
    )
    return figures


async def _start(engine: EngineApi, options: NetworkOptions) -> float:
    request = ContainerRequest(image=IMAGE, command=("sleep", "60"), network=options)
    made = await engine.create_container(request)
    clock = Clock()
    await engine.start_container(made.container_id)
    seconds = clock.seconds
    await engine.remove_container(made.container_id, is_forced=True)
    return seconds
