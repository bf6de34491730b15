"""A network server as a process of its own, for a container that is only a namespace."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.network.ports import PortReservation
from engine.runtime.network_view import MemberNames, NetworkView, write_member, write_view
from engine.runtime.records import encode_record
from engine.runtime.spec import NetworkSpec, PortSpec
from tests.namespaces import Namespace, connect_namespaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.types import PublishedPort
    from tests.worlds import World

RESOLVER_ADDRESS = "127.0.0.11"
CHECKOUT = Path(__file__).resolve().parents[1]

# In the monitor's place: no site-packages, one thread, a fork that serves.
_SCRIPT = """
import os, resource, socket, sys
sys.path.insert(0, sys.argv[1])
from engine.runtime.network_server import run_network_server
from engine.runtime.records import decode_record
from engine.runtime.spec import NetworkSpec
ports = decode_record(NetworkSpec, sys.argv[3].encode()).ports
reservation = int(sys.argv[4])
names = tuple(socket.socket(fileno=int(each)) for each in sys.argv[5:]) or None
if "MOST_DESCRIPTORS" in os.environ:
    most = int(os.environ["MOST_DESCRIPTORS"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
monitor = os.pidfd_open(os.getpid())
server = os.fork()
if server == 0:
    run_network_server(sys.argv[2], ports, names, reservation=reservation, monitor=monitor)
os.write(1, b"%d\\n" % server)
os.waitpid(server, 0)
"""


class ServedContainer:
    """A namespace with a cable to the machine, and the process that serves it.

    Attributes:
        process: The server's monitor, which ends with it and takes it along.
        server_id: The server's process id.
    """

    def __init__(self, world: World, directory: Path) -> None:
        """Make the namespace; nothing serves it yet.

        Args:
            world: Where the server runs.
            directory: For the files of views and names.
        """
        self.world = world
        self.inside = Namespace("container")
        self.run_directory = directory / "run"
        self.networks_directory = directory / "networks"
        self.run_directory.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.names_port = 0
        self.server_id = 0

    def join(self, gateway: str, address: str, *others: str) -> None:
        """Lay a cable to the machine, `10.77.0.1/24` at its end and `10.77.0.2/24` at this one."""
        connect_namespaces(self.inside, "eth0", self.world.machine, "veth-test")
        self.world.machine.add_address("veth-test", gateway)
        self.inside.add_address("eth0", address)
        for place, other in enumerate(others):
            (self.world.machine if place % 2 == 0 else self.inside).add_address(
                "veth-test" if place % 2 == 0 else "eth0", other
            )

    def write_view(self, **fields: object) -> None:
        fields.setdefault("resolver_path", str(self.world.resolver))
        write_view(str(self.run_directory), NetworkView(**fields))  # type: ignore[arg-type]

    def write_member(
        self, network: str, container: str, *names: str, addresses: Iterable[str]
    ) -> None:
        member = MemberNames(names=names, addresses=tuple(addresses))
        write_member(str(self.networks_directory / network), container, member)

    def serve(
        self,
        ports: Iterable[PublishedPort] = (),
        *,
        names: bool = True,
        port: int = 0,
        most_descriptors: int = 0,
    ) -> subprocess.Popen[bytes]:
        """Start the process.

        Args:
            ports: Of the machine's.
            names: It answers questions for names.
            port: Where it does, in the container.
            most_descriptors: It may open; 0 is what this process may.
        """
        sockets: list[socket.socket] = []
        if names:
            datagrams = self.inside.listen(RESOLVER_ADDRESS, port, socket.SOCK_DGRAM)
            self.names_port = datagrams.getsockname()[1]
            sockets = [datagrams, self.inside.listen(RESOLVER_ADDRESS, self.names_port)]
        network = NetworkSpec(
            ports=tuple(
                PortSpec(
                    host_address=port.host_address,
                    host_port=port.host_port,
                    container_port=port.container_port,
                    protocol=port.protocol,
                )
                for port in ports
            )
        )
        reservation = PortReservation()
        with self.world.machine.entered():
            for port in ports:
                reservation.reserve(port)
        reservation.seal()
        channel = reservation.fileno() if ports else -1
        passed = [each for each in (channel, *(one.fileno() for one in sockets)) if each >= 0]
        limit = {"MOST_DESCRIPTORS": str(most_descriptors)} if most_descriptors else {}
        with self.world.machine.entered():
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _SCRIPT, str(CHECKOUT)),
                    *(str(self.run_directory), encode_record(network).decode()),
                    *(str(channel), *(str(each.fileno()) for each in sockets)),
                ],
                stdout=subprocess.PIPE,
                env={**os.environ, **limit},
                pass_fds=passed,
            )
        for each in (reservation, *sockets):
            each.close()
        assert self.process.stdout is not None
        self.server_id = int(self.process.stdout.readline())
        return self.process

    def is_serving(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def memory_bytes(self) -> int:
        """What the server has written to; unlike its share it does not change with others."""
        status = Path(f"/proc/{self.server_id}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
        assert found
        return int(found[1]) << 10

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.server_id}/fd"))

    def look_up(self, *names: str, family: int = socket.AF_UNSPEC) -> list[list[str]]:
        """What libc finds in the container, through /etc/resolv.conf and the resolver's port 53."""
        script = (
            "import json, socket, sys\n"
            "def look_up(name):\n"
            "    try:\n"
            "        found = socket.getaddrinfo(name, None, int(sys.argv[1]), socket.SOCK_STREAM)\n"
            "    except socket.gaierror as error:\n"
            "        return [error.strerror]\n"
            "    return [each[4][0] for each in found]\n"
            "print(json.dumps([look_up(name) for name in sys.argv[2:]]))\n"
        )
        resolver = self.run_directory / "resolv.conf"
        resolver.write_text(f"nameserver {RESOLVER_ADDRESS}\noptions ndots:0 timeout:5\n")
        command = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        with self.inside.entered():
            done = subprocess.run(
                [
                    *("unshare", "--mount", "sh", "-c", command, str(resolver)),
                    *(sys.executable, "-c", script, str(int(family)), *names),
                ],
                capture_output=True,
                text=True,
                check=True,
            )
        found: list[list[str]] = json.loads(done.stdout)
        return found

    def close(self) -> None:
        """End the server and give the namespace up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
        self.inside.close()
