"""Containers as the tests of networks have them: started, and spoken from as their programs would.

A socket that is made in a container's network namespace sends what its program would send.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from engine.types import AttachmentRequest, ContainerRequest, NetworkOptions, PublishedPort
from tests.namespaces import Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.api import EngineApi

IMAGE = "starter:latest"
PATIENCE_SECONDS = 10


class Inside(Namespace):
    """The network namespace of a container that runs; `close` gives it up."""

    def __init__(self, name: str, process_id: int) -> None:
        self.name = name
        self.descriptor = os.open(f"/proc/{process_id}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Box:
    """A container that runs, and its place in the networks."""

    def __init__(self, name: str, inside: Inside, addresses: dict[str, str], mac: str) -> None:
        self.name = name
        self.inside = inside
        self.addresses = addresses
        self.mac = mac

    @property
    def address4(self) -> str:
        """In the first of its networks."""
        return next(iter(self.addresses.values()))


def published(container_port: int, host_port: int = 0, **more: object) -> PublishedPort:
    return PublishedPort(container_port=container_port, host_port=host_port, **more)


def attached(*names: str) -> tuple[AttachmentRequest, ...]:
    return tuple(AttachmentRequest(network=name) for name in names)


@contextlib.asynccontextmanager
async def running(
    engine: EngineApi, name: str, *networks: str, **options: object
) -> AsyncIterator[Box]:
    """A container that does nothing, in these networks or the default one, for a block."""
    request = ContainerRequest(
        image=IMAGE,
        name=name,
        command=("sleep", "1000"),
        network=NetworkOptions(attachments=attached(*networks), **options),
    )
    await engine.create_container(request)
    await engine.start_container(name)
    box = await box_of(engine, name)
    with contextlib.closing(box.inside):
        yield box
    with contextlib.suppress(Exception):
        await engine.remove_container(name, is_forced=True)


async def box_of(engine: EngineApi, name: str) -> Box:
    """What a container that runs has."""
    details = await engine.inspect_container(name)
    assert details.process_id is not None
    return Box(
        name,
        Inside(name, details.process_id),
        {one.network_name: one.ipv4_address.partition("/")[0] for one in details.attachments},
        details.attachments[0].mac_address if details.attachments else "",
    )


def said_by(namespace: Namespace, address: str, port: int) -> str:
    """What somebody says who is spoken to by TCP; empty if nobody is there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def ask() -> str:
        with socket.socket(family, socket.SOCK_STREAM) as asking:
            asking.settimeout(PATIENCE_SECONDS)
            asking.connect((address, port))
            asking.sendall(b"\n")
            return asking.makefile().readline().strip()

    return namespace.run(ask)


def said_by_datagram(namespace: Namespace, address: str, port: int) -> str:
    """As above, by UDP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def ask() -> str:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE_SECONDS)
            asking.connect((address, port))
            asking.send(b"hello")
            return asking.recv(4096).decode().strip()

    return namespace.run(ask)


def is_silent(namespace: Namespace, address: str, port: int, *, seconds: float = 1.5) -> bool:
    """Whether packets to an address get no answer at all, not even a refusal."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def ask() -> bool:
        with socket.socket(family, socket.SOCK_STREAM) as asking:
            asking.settimeout(seconds)
            try:
                asking.connect((address, port))
            except TimeoutError:
                return True
            except OSError:
                return False
            return False

    return namespace.run(ask)
