"""The way out of an ordinary user's containers: pasta or slirp4netns, which speak for them outside.

The program is a child of the monitor's with a device in the container's namespace, and ends with
the monitor. When it ends by itself the container is cut off, so another one is started. It makes
the device and carries packets; addresses and routes are given here, the same with both programs,
names are asked of the monitor's resolver, and published ports are carried on by its server.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from engine.errors import StartError, SyscallError
from engine.linux.process import (
    CLONE_NEWNET,
    clone_process,
    close_other_descriptors,
    enter_namespaces,
    set_process_name,
)
from engine.runtime.network import change_interfaces
from engine.runtime.program import die_with
from engine.runtime.protocol import FrameKind, receive_frame, send_frame
from engine.runtime.records import decode_record, encode_record
from engine.runtime.spec import InterfaceSpec, NetworkSpec
from engine.runtime.user_network_guard import guard_device

if TYPE_CHECKING:
    from engine.runtime.reactor import Deadline, Reactor

PASTA = "pasta"
SLIRP4NETNS = "slirp4netns"
IPV4_ADDRESS = "10.0.2.100"
IPV6_ADDRESS = "fd00::100"
"""What a container has by them, if the host has IPv6: slirp4netns knows no other prefix."""
_IPV4_GATEWAY, _IPV6_GATEWAY = "10.0.2.2", "fd00::2"
_PENDING_NAME = "lamella-way-out"
_DEVICE = "tap0"
_MTU = 65520
_GATEWAY_MAC = "02:4c:61:6d:00:02"
_AGAIN_SECONDS = 1.0
_ROUTED = (
    (socket.AF_INET, ("192.0.2.1", 9)),
    (socket.AF_INET6, ("2001:db8::1", 9)),
)
"""Nobody has these addresses (RFC 5737, RFC 3849): they are behind a default route, if any."""
_MOST_ERROR_BYTES = 4096
_ABOVE_THE_PROGRAMS = 10


def user_addresses(network: NetworkSpec) -> tuple[str, ...]:
    """The addresses of a container whose way out is such a program."""
    return (IPV4_ADDRESS, IPV6_ADDRESS) if network.has_user_ipv6 else (IPV4_ADDRESS,)


class PendingUserNetwork:
    """The process before it has the container's namespace.

    It is born in the host's network namespace, into which an ordinary user finds no way back.
    """

    def __init__(self, monitor: int, *, is_sibling: bool = True) -> None:
        """Make it the monitor's child; for a starter that has not entered the namespace yet.

        Args:
            monitor: A pidfd of the monitor.
            is_sibling: The caller is not the monitor itself.
        """
        self._ready, ready = os.pipe2(os.O_CLOEXEC)
        self._errors, errors = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        process_id, self._pidfd = clone_process(0, is_sibling=is_sibling)
        if process_id == 0:
            _await_namespace(monitor, theirs, ready=ready, errors=errors)
        theirs.close()
        os.close(ready)
        os.close(errors)

    def start(self, network: NetworkSpec, namespace: int) -> int:
        """Have it lead out of the namespace of this process, and wait until it does.

        Args:
            network: Names the program.
            namespace: A descriptor of the namespace.

        Returns:
            Its pidfd.

        Raises:
            StartError: It has ended without being ready.
            EngineError, OSError: The device gets no address.
        """
        with self._channel:
            send_frame(self._channel, FrameKind.START, encode_record(network), (namespace,))
        is_ready = os.read(self._ready, 1)
        said = "" if is_ready else _last_words(self._errors)
        os.close(self._ready)
        os.close(self._errors)
        try:
            if not is_ready:
                raise StartError(
                    f"{network.user_network} cannot give the container a network"
                    + (f": {said}" if said else ""),
                    exit_code=125,
                    step="network",
                    hint="--network none goes without, --network host has the host's",
                )
            _configure(network)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            raise
        return self._pidfd


def _await_namespace(monitor: int, channel: socket.socket, *, ready: int, errors: int) -> NoReturn:
    try:
        set_process_name(_PENDING_NAME)
        die_with(monitor)
        # Who keeps the other end of a channel keeps somebody from seeing its end.
        close_other_descriptors({channel.fileno(), ready, errors, monitor})
        frame = receive_frame(channel)
        if frame is not None:
            network = decode_record(NetworkSpec, frame[1])
            _run(network, frame[2][0], monitor, ready=ready, errors=errors)
    finally:
        os._exit(1)


def _run(
    network: NetworkSpec, namespace: int, monitor: int, *, ready: int, errors: int = -1
) -> NoReturn:
    try:
        die_with(monitor)
        null = os.open(os.devnull, os.O_RDWR)
        errors = errors if errors >= 0 else null
        # Nobody listens any more to what it says later.
        if os.path.basename(network.user_network) == PASTA:
            words = _pasta_words(network)
            # Newer versions close all but the first three.
            descriptors = [namespace, ready, errors]
            # It ignores the signal itself, and takes for a failure that somebody has before.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        else:
            words = _slirp_words(network)
            descriptors = [namespace, null, errors, ready]
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        descriptors = [
            fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _ABOVE_THE_PROGRAMS) for each in descriptors
        ]
        for place, descriptor in enumerate(descriptors):
            os.dup2(descriptor, place)
        close_other_descriptors(set(range(len(descriptors))))
        os.execve(network.user_network, words, {"PATH": os.defpath})
    finally:
        os._exit(127)


def _pasta_words(network: NetworkSpec) -> list[str]:
    words = [
        PASTA,
        "--foreground",
        "--quiet",
        # Written when the device is there.
        "--pid=/proc/self/fd/1",
        "--netns=/proc/self/fd/0",
        "--no-netns-quit",
        f"--ns-ifname={_DEVICE}",
        f"--mtu={_MTU}",
        f"--mac-addr={_GATEWAY_MAC}",
        f"--address={IPV4_ADDRESS}",
        f"--gateway={_IPV4_GATEWAY}",
        # What listens on the host's loopback is not for containers, nor the other way round.
        "--no-map-gw",
        "--tcp-ports=none",
        "--udp-ports=none",
        "--tcp-ns=none",
        "--udp-ns=none",
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ra",
    ]
    if network.has_user_ipv6:
        words += [f"--address={IPV6_ADDRESS}", f"--gateway={_IPV6_GATEWAY}"]
    else:
        words.append("--ipv4-only")
    if not any(_is_routed(*one) for one in _ROUTED):
        # It would not come up on a host that is offline, which may not remain so.
        words.append("--interface=lo")
    return words


def _slirp_words(network: NetworkSpec) -> list[str]:
    words = [
        SLIRP4NETNS,
        f"--mtu={_MTU}",
        # What listens on the host's loopback is not for containers.
        "--disable-host-loopback",
        "--disable-dns",
        "--netns-type=path",
        "--ready-fd=3",
    ]
    if network.has_user_ipv6:
        words.append("--enable-ipv6")
    return [*words, "/proc/self/fd/0", _DEVICE]


def _is_routed(family: int, address: tuple[str, int]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as towards:
            towards.connect(address)
    except OSError:
        return False
    return True


def _last_words(errors: int) -> str:
    """What a program that has ended said last, but for complaints about the lack of a syslog."""
    with contextlib.suppress(BlockingIOError):
        lines = os.read(errors, _MOST_ERROR_BYTES).decode(errors="replace").splitlines()
        said = [line for line in lines if line.strip() and "syslog" not in line]
        if said:
            moment, colon, words = said[-1].strip().partition(": ")
            is_dated = colon and moment.replace(".", "", 1).isdigit()
            return words if is_dated else said[-1].strip()
    return ""


def _configure(network: NetworkSpec) -> None:
    """Give the device, which is in the namespace of this process, addresses and routes.

    Raises:
        EngineError, OSError: The kernel refuses.
    """
    device = InterfaceSpec(
        network_id="",
        name=_DEVICE,
        host_name="",
        bridge="",
        mac_address="",
        ipv4_address=f"{IPV4_ADDRESS}/24",
        ipv4_gateway=_IPV4_GATEWAY,
        ipv6_address=f"{IPV6_ADDRESS}/64" if network.has_user_ipv6 else "",
        ipv6_gateway=_IPV6_GATEWAY if network.has_user_ipv6 else "",
        mtu=_MTU,
    )
    # A kernel without netfilter has no way to keep it from anything.
    with contextlib.suppress(SyscallError, OSError):
        guard_device(_DEVICE)
    change_interfaces((), (device,))


class UserNetwork:
    """The process, as a monitor keeps it."""

    def __init__(
        self, reactor: Reactor, network: NetworkSpec, *, namespace: int, pidfd: int
    ) -> None:
        """Watch one that a starter has started."""
        self._reactor = reactor
        self._network = network
        self._namespace = namespace
        self._pidfd = pidfd
        self._ready = -1
        self._again: Deadline | None = None
        reactor.watch(pidfd, lambda _events: self._ended())

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._again is not None:
            self._again.cancel()
        if self._pidfd >= 0:
            self._kill()
            self._reap()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _ended(self) -> None:
        self._reap()
        # Not at once: what has ended it may end the next one, too.
        self._again = self._reactor.after(_AGAIN_SECONDS, self._begin)

    def _begin(self) -> None:
        monitor = ready = -1
        try:
            monitor = os.pidfd_open(os.getpid())
            self._ready, ready = os.pipe2(os.O_CLOEXEC)
            process_id = os.fork()
            if process_id == 0:
                _run(self._network, self._namespace, monitor, ready=ready)
            self._pidfd = os.pidfd_open(process_id)
        except OSError:  # no process is to be had now
            self._close_ready()
            self._again = self._reactor.after(_AGAIN_SECONDS, self._begin)
            return
        finally:
            for descriptor in (monitor, ready):
                if descriptor >= 0:
                    os.close(descriptor)
        self._reactor.watch(self._pidfd, lambda _events: self._ended())
        self._reactor.watch(self._ready, lambda _events: self._came_up())

    def _came_up(self) -> None:
        self._reactor.forget(self._ready)
        is_ready = os.read(self._ready, 1)
        self._close_ready()
        # Of one that has ended instead we hear by its pidfd.
        if is_ready and not _configure_in(self._namespace, self._network):
            self._kill()

    def _close_ready(self) -> None:
        if self._ready >= 0:
            self._reactor.forget(self._ready)
            os.close(self._ready)
            self._ready = -1

    def _reap(self) -> None:
        self._close_ready()
        self._reactor.forget(self._pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        self._pidfd = -1


def _configure_in(namespace: int, network: NetworkSpec) -> bool:
    """Have a child do it in there, as there is no way back; whether it could."""
    try:
        child = os.fork()
    except OSError:
        return False
    if child == 0:
        try:
            enter_namespaces(namespace, CLONE_NEWNET)
            _configure(network)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0
