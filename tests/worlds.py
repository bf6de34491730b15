"""A small internet of a test's own: a machine, and who it can speak with, as network namespaces.

```
machine .10   web .80   names .53   neighbour .20      each with a link `uplink`
   |            |          |            |
   +------------+----------+------------+              192.0.2.0/24 and 2001:db8::/64: a bridge
                                                       in a namespace of its own
```

The engine under test, its launcher and its containers are in the machine: the test's main thread
has entered it, so that everything started by it is there. The others know no route to what is
behind the machine, as nobody on an internet does. Nothing leaves this host, and no link, rule or
setting of its own is touched.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.namespaces import Namespace, add_bridge, connect_namespaces
from tests.programs import installed_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UPLINK = "uplink"
NETWORK4 = ipaddress.ip_network("192.0.2.0/24")
NETWORK6 = ipaddress.ip_network("2001:db8::/64")
WEB_PORT = 80
ECHO_PORT = 7
_WIRE = "wire0"
_MOST_LINE_BYTES = 4096


class Host(Namespace):
    """A host on the wire."""

    def __init__(self, name: str, number: int) -> None:
        """Make it, with no link yet."""
        super().__init__(name)
        self.address4 = str(NETWORK4[number])
        self.address6 = str(NETWORK6[number])


class World:
    """The hosts; `close` takes everything down."""

    def __init__(self, directory: Path) -> None:
        """Make them all.

        Args:
            directory: Gets the machine's resolv.conf.
        """
        self._open = contextlib.ExitStack()
        try:
            self._wire = self._open.enter_context(contextlib.closing(Namespace("wire")))
            add_bridge(self._wire, _WIRE)
            self.machine = self._add("machine", 10)
            self.web = self._add("web", 80)
            self.names = self._add("names", 53)
            self.neighbour = self._add("neighbour", 20)
            # As on most hosts: what is beyond the own link is somebody else's to find.
            self.machine.add_route("default", self.neighbour.address4)
            self.machine.add_route("default", self.neighbour.address6)
            self.resolver = directory / "host-resolv.conf"
            self.resolver.write_text(
                f"nameserver {self.names.address4}\nsearch example.test\noptions timeout:2\n"
            )
            self.name_server = self._open.enter_context(NameServer(self.names))
            for host in (self.web, self.neighbour):
                self._open.enter_context(AnswersWithSource(host))
        except BaseException:
            self._open.close()
            raise

    def _add(self, name: str, number: int) -> Host:
        host = self._open.enter_context(contextlib.closing(Host(name, number)))
        connect_namespaces(host, UPLINK, self._wire, f"to-{name}", bridge=_WIRE)
        host.add_address(UPLINK, f"{host.address4}/{NETWORK4.prefixlen}")
        host.add_address(UPLINK, f"{host.address6}/{NETWORK6.prefixlen}")
        return host

    def run_on_machine(
        self, *arguments: str, is_checked: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the machine, which reads the machine's resolv.conf; blocking."""
        with self.machine.entered():
            return subprocess.run(
                self.machine_command(*arguments), capture_output=True, text=True, check=is_checked
            )

    def nft(self, *arguments: str, rules: str | None = None) -> str:
        """Have nft(8) look at the machine's rules or change them, as others do; blocking."""
        program = installed_program("nft")
        with self.machine.entered():
            done = subprocess.run(
                (program, *arguments), input=rules, capture_output=True, text=True, check=True
            )
        return done.stdout

    def machine_command(self, *arguments: str) -> tuple[str, ...]:
        """The command line of a program that reads the machine's resolv.conf.

        Whoever starts it has entered the machine.
        """
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ("unshare", "--mount", "sh", "-c", script, str(self.resolver), *arguments)

    def close(self) -> None:
        """End all servers and give up all namespaces."""
        self._open.close()


@contextlib.contextmanager
def opened_world(directory: Path) -> Iterator[World]:
    """Make a world and have the calling thread on its machine; for a fixture.

    Not for a coroutine: what it makes and takes down blocks.
    """
    with contextlib.closing(World(directory)) as world, world.machine.entered():
        yield world


# --- servers ----------------------------------------------------------------------------------


class _Servers:
    """Sockets of a host with a thread each, until the end of the block."""

    def __init__(self, servers: list[socketserver.BaseServer]) -> None:
        self._servers = servers
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,), name="world-server")
            for server in servers
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


class _TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, handler: type[socketserver.BaseRequestHandler]):
        # The socket of the base class is this namespace's: it is made and closed at once.
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients of tests break off; servers do not mind."""


class _UdpServer(socketserver.UDPServer):
    def __init__(self, bound: socket.socket, handler: type[socketserver.BaseRequestHandler]):
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound

    def handle_error(self, request: object, client_address: object) -> None:
        """As above."""


class AnswersWithSource:
    """HTTP on port 80, TCP and UDP on port 7: who says anything hears from where it came.

    `web sees 192.0.2.10`, one line.
    """

    def __init__(self, host: Host) -> None:
        name = host.name

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                first = self.rfile.readline(_MOST_LINE_BYTES)
                line = f"{name} sees {self.client_address[0]}\n".encode()
                if first.startswith(b"GET "):
                    while self.rfile.readline(_MOST_LINE_BYTES).strip():
                        continue
                    head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(line)}\r\n\r\n"
                    line = head.encode() + line
                self.wfile.write(line)

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                _content, answering = self.request
                line = f"{name} sees {self.client_address[0]}\n".encode()
                answering.sendto(line, self.client_address)

        servers: list[socketserver.BaseServer] = []
        for address in ("0.0.0.0", "::"):
            servers += [
                _TcpServer(host.listen(address, WEB_PORT), Stream),
                _TcpServer(host.listen(address, ECHO_PORT), Stream),
                _UdpServer(host.listen(address, ECHO_PORT, socket.SOCK_DGRAM), Datagram),
            ]
        self._servers = _Servers(servers)

    def __enter__(self) -> AnswersWithSource:
        self._servers.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._servers.__exit__(*error)


@dataclass(frozen=True)
class Question:
    """One that came to the name server."""

    name: str
    kind: int
    source: str
    source_port: int
    query_id: int
    is_tcp: bool
    message: bytes


class NameServer:
    """The DNS server of the world, for UDP and TCP; it knows what `addresses` and `texts` say.

    Attributes:
        addresses: What names have, in lower case: IPv4 and IPv6 addresses.
        silent: Names to which it never answers.
        truncated: Names whose answers over UDP are empty and marked as cut.
        padding: Records with which every answer over TCP is filled up.
        questions: All that came.
    """

    def __init__(self, host: Host) -> None:
        self.addresses: dict[str, tuple[str, ...]] = {
            "web.example.test": (str(NETWORK4[80]), str(NETWORK6[80])),
            "neighbour.example.test": (str(NETWORK4[20]),),
        }
        self.silent: set[str] = set()
        self.truncated: set[str] = set()
        self.padding = 0
        self.questions: list[Question] = []
        knowledge = self

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while len(head := self.rfile.read(2)) == 2:
                    message = self.rfile.read(struct.unpack("!H", head)[0])
                    answer = knowledge._answer(message, self.client_address, is_tcp=True)
                    if answer:
                        self.wfile.write(struct.pack("!H", len(answer)) + answer)

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                message, answering = self.request
                answer = knowledge._answer(message, self.client_address, is_tcp=False)
                if answer:
                    answering.sendto(answer, self.client_address)

        servers: list[socketserver.BaseServer] = []
        for address in ("0.0.0.0", "::"):
            servers += [
                _TcpServer(host.listen(address, 53), Stream),
                _UdpServer(host.listen(address, 53, socket.SOCK_DGRAM), Datagram),
            ]
        self._servers = _Servers(servers)

    def __enter__(self) -> NameServer:
        self._servers.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._servers.__exit__(*error)

    def _answer(self, message: bytes, source: tuple[str, int], *, is_tcp: bool) -> bytes:
        query_id, flags = struct.unpack_from("!HH", message)
        labels = []
        place = 12
        while length := message[place]:
            labels.append(message[place + 1 : place + 1 + length].decode("latin-1"))
            place += 1 + length
        kind = struct.unpack_from("!H", message, place + 1)[0]
        question = message[12 : place + 5]
        name = ".".join(labels).lower()
        self.questions.append(
            Question(
                name=name,
                kind=kind,
                source=source[0],
                source_port=source[1],
                query_id=query_id,
                is_tcp=is_tcp,
                message=message,
            )
        )
        if name in self.silent:
            return b""
        known = self.addresses.get(name)
        records = []
        for text in known or ():
            address = ipaddress.ip_address(text)
            if kind == (1 if address.version == 4 else 28):
                packed = address.packed
                records.append(struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(packed)) + packed)
        if is_tcp:
            text = bytes([255]) + b"x" * 255
            records += [struct.pack("!HHHIH", 0xC00C, 16, 1, 60, 256) + text] * self.padding
        is_cut = name in self.truncated and not is_tcp
        if is_cut:
            records = []
        told = 0x8080 | (flags & 0x0100) | (0x0200 if is_cut else 0) | (0 if known else 3)
        header = struct.pack("!HHHHHH", query_id, told, 1, len(records), 0, 0)
        return header + question + b"".join(records)


def python_in(namespace: Namespace, script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python program in a namespace, with its ends of stdin and stdout as pipes."""
    with namespace.entered():
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
