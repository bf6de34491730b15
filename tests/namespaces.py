"""Network namespaces of tests: held by a descriptor alone, entered by one thread at a time.

There is nothing to clean up but the descriptor: links, addresses and rules of a namespace go with
it. Sockets stay in the namespace in which they were made, so that a test can speak and listen in
several at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, TypeVar

from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD

from engine.linux.process import CLONE_NEWNET, enter_namespaces, leave_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyroute2 import IPRoute

_Result = TypeVar("_Result")


class Namespace:
    """A network namespace; `close` gives it up."""

    def __init__(self, name: str) -> None:
        """Make one with nothing in it but `lo`, up."""
        self.name = name
        self.descriptor = -1
        with _return_here():
            leave_namespaces(CLONE_NEWNET)
            self.descriptor = _open_own()
            # A new namespace has some of them from the first one, which tests know nothing of.
            for family in ("ipv4", "ipv6"):
                for kind in ("all", "default"):
                    write_setting(f"{family}/conf/{kind}/forwarding", "0")
            for kind in ("all", "default"):
                write_setting(f"ipv4/conf/{kind}/route_localnet", "0")
                write_setting(f"ipv4/conf/{kind}/rp_filter", "0")
                write_setting(f"ipv6/conf/{kind}/accept_dad", "0")
                write_setting(f"ipv6/conf/{kind}/accept_ra", "0")
                write_setting(f"ipv6/conf/{kind}/disable_ipv6", "0")
        self.configure(_bring_loopback_up)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have the calling thread, and the processes and threads that it starts, in here.

        Within a coroutine nothing may be awaited meanwhile. /sys shows another namespace's links
        still, and /proc/net those of the main thread's.
        """
        with _return_here():
            enter_namespaces(self.descriptor, CLONE_NEWNET)
            yield

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace; no call on it will block."""
        with self.entered():
            made = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        made.setblocking(False)
        return made

    def listen(self, address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket that is bound in here, for TCP listening as well."""
        made = self.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address, port))
            if kind == socket.SOCK_STREAM:
                made.listen(128)
        except OSError:
            made.close()
            raise
        return made

    def run(self, function: Callable[[], _Result]) -> _Result:
        """Call a function on a thread of its own in here, and wait for it."""
        results: list[_Result] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                with self.entered():
                    results.append(function())
            except BaseException as error:  # raised again where it is waited for
                errors.append(error)

        thread = threading.Thread(target=call, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def configure(self, function: Callable[[IPRoute], _Result]) -> _Result:
        """Have links, addresses and routes of this namespace changed or read."""

        def call() -> _Result:
            from pyroute2 import IPRoute

            with IPRoute() as route:
                return function(route)

        return self.run(call)

    def set(self, name: str, value: str) -> None:
        """Write a setting below /proc/sys/net."""
        with self.entered():
            write_setting(name, value)

    def setting(self, name: str) -> str:
        """Read a setting below /proc/sys/net."""
        with self.entered(), open(f"/proc/sys/net/{name}") as file:
            return file.read().strip()

    def links(self) -> frozenset[str]:
        """The names of all its links."""
        with self.entered():
            return frozenset(name for _index, name in socket.if_nameindex())

    def add_address(self, link: str, address: str) -> None:
        """Give a link an address with the length of its prefix, `192.0.2.1/24`."""
        text, _, length = address.partition("/")

        def add(route: IPRoute) -> None:
            (index,) = route.link_lookup(ifname=link)
            # Without a check for duplicates: until that ends nobody can speak from it (RFC 4862).
            route.addr("add", index=index, address=text, prefixlen=int(length), flags=IFA_F_NODAD)

        self.configure(add)

    def add_route(self, destination: str, gateway: str) -> None:
        """Route a destination, `default` or a prefix, by a gateway."""
        family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
        self.configure(
            lambda route: route.route("add", dst=destination, gateway=gateway, family=family)
        )

    def close(self) -> None:
        """Give it up; the kernel removes it when no process and no socket is in it any more."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def connect_namespaces(
    inside: Namespace, inside_name: str, outside: Namespace, outside_name: str, *, bridge: str = ""
) -> None:
    """Lay a cable, up at both ends; the outer end becomes a port of a bridge if one is named."""

    def make(route: IPRoute) -> None:
        route.link(
            "add",
            ifname=outside_name,
            kind="veth",
            peer={"ifname": inside_name, "net_ns_fd": inside.descriptor},
        )
        (index,) = route.link_lookup(ifname=outside_name)
        if bridge:
            (master,) = route.link_lookup(ifname=bridge)
            route.link("set", index=index, master=master)
        route.link("set", index=index, state="up")

    outside.configure(make)
    inside.configure(
        lambda route: route.link("set", index=route.link_lookup(ifname=inside_name)[0], state="up")
    )


def add_bridge(namespace: Namespace, name: str) -> None:
    """Make a bridge, up."""

    def make(route: IPRoute) -> None:
        route.link("add", ifname=name, kind="bridge")
        route.link("set", index=route.link_lookup(ifname=name)[0], state="up")

    namespace.configure(make)


def write_setting(name: str, value: str) -> None:
    """Write a setting below /proc/sys/net of the namespace in which the calling thread is."""
    with open(f"/proc/sys/net/{name}", "w") as file:
        file.write(value)


def _bring_loopback_up(route: IPRoute) -> None:
    route.link("set", index=1, state="up")


def _open_own() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def _return_here() -> Iterator[None]:
    here = _open_own()
    try:
        yield
    finally:
        enter_namespaces(here, CLONE_NEWNET)
        os.close(here)
