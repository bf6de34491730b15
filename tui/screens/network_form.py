"""The forms that make a network and put a container into one; they stay until the engine agrees."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, TypeVar

from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Checkbox, Input, Static

from engine.errors import EngineError
from engine.types import (
    AttachmentRequest,
    ContainerStatus,
    Network,
    NetworkRequest,
    NetworkSubnet,
)
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, safe_text
from tui.screens.run_form import FieldError, Tick

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from textual.app import ComposeResult

    from engine.types import ContainerSummary
    from tui.bridge import Bridge

Answer = TypeVar("Answer")
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def parse_subnets(subnets: str, gateways: str, ranges: str) -> tuple[NetworkSubnet, ...]:
    """Put together what three fields say of the IPv4 and the IPv6 subnet.

    Raises:
        FieldError: A field holds no such thing, or nothing that belongs to a subnet.
    """
    found: dict[int, tuple[str, IPNetwork]] = {}
    for word in _words(subnets):
        try:
            subnet = ipaddress.ip_network(word)
        except ValueError as error:
            hint = "write it as 10.5.0.0/24"
            if "has host bits set" in str(error):
                hint = f"it should be {ipaddress.ip_network(word, strict=False)}"
            raise FieldError("subnet", f"Subnet: {word!r} is no subnet; {hint}") from None
        if subnet.version in found:
            raise FieldError("subnet", f"Subnet: one IPv{subnet.version} subnet is all it has")
        found[subnet.version] = (word, subnet)
    by_version = {
        "gateway": _by_version("gateway", "Gateway", gateways, found),
        "range": _by_version("range", "Range", ranges, found),
    }
    return tuple(
        NetworkSubnet(
            subnet=text,
            gateway=by_version["gateway"].get(version, ""),
            ip_range=by_version["range"].get(version, ""),
        )
        for version, (text, _subnet) in found.items()
    )


def _by_version(
    field: str, label: str, text: str, subnets: dict[int, tuple[str, IPNetwork]]
) -> dict[int, str]:
    """What a field says of each subnet; it must lie in it."""
    found: dict[int, str] = {}
    for word in _words(text):
        try:
            value: IPNetwork = ipaddress.ip_network(word)
        except ValueError:
            raise FieldError(field, f"{label}: {word!r} is no address") from None
        if field == "gateway" and value.num_addresses != 1:
            raise FieldError(field, f"{label}: one address, without a prefix")
        subnet = subnets.get(value.version)
        if subnet is None or not _is_within(value, subnet[1]):
            where = "give the subnet, too" if subnet is None else f"it is not in {subnet[0]}"
            raise FieldError(field, f"{label}: {where}")
        found[value.version] = word.partition("/")[0] if field == "gateway" else word
    return found


def _is_within(value: IPNetwork, subnet: IPNetwork) -> bool:
    first, last = value.network_address, value.broadcast_address
    return int(subnet.network_address) <= int(first) and int(last) <= int(subnet.broadcast_address)


class _AskingForm(Dialog[Answer]):
    """A form that calls the engine, says what is wrong, and closes when that went well."""

    BINDINGS = [
        Binding("ctrl+s,f5", "submit", show=False, id="network_form.submit", priority=True),
        Binding("enter", "submit", show=False, id="network_form.submit_from_tick"),
        Binding("down", "app.focus_next", show=False, id="network_form.next"),
        Binding("up", "app.focus_previous", show=False, id="network_form.previous"),
    ]
    FIELDS: tuple[tuple[str, str, str], ...]

    def __init__(self, title: str, bridge: Bridge) -> None:
        super().__init__(title)
        self._bridge = bridge
        self._is_asking = False

    def _fields(self) -> ComposeResult:
        for name, label, placeholder in self.FIELDS:
            with Horizontal(classes="form-row"):
                yield Static(label, classes="form-label")
                field = Input(placeholder=placeholder, id=f"field-{name}", compact=True)
                field.cursor_blink = False
                yield field

    def on_mount(self) -> None:
        """Begin in the first field."""
        self.query_one(f"#field-{self.FIELDS[0][0]}").focus()

    def on_input_submitted(self) -> None:
        """Submit from any field."""
        self.action_submit()

    def action_submit(self) -> None:
        """Ask the engine, unless it is being asked or a field makes no sense."""
        if self._is_asking:
            return
        try:
            call = self._call()
        except FieldError as error:
            self._say(str(error))
            self.query_one(f"#field-{error.field}").focus()
            return
        self._is_asking = True
        self._say("")
        self.run_worker(self._ask(call), group="network-form", exit_on_error=False)

    async def _ask(self, call: Coroutine[object, object, Answer]) -> None:
        try:
            self.dismiss(await call)
        except EngineError as error:
            self._say(f"{error.message}\n{error.hint}".strip())
        finally:
            self._is_asking = False

    def _call(self) -> Coroutine[object, object, Answer]:
        """What the engine is asked; raises FieldError."""
        raise NotImplementedError

    def _value(self, name: str) -> str:
        return self.query_one(f"#field-{name}", Input).value.strip()

    def _say(self, text: str) -> None:
        self.query_one(".problem", Static).update(safe_text(text))


class NetworkFormScreen(_AskingForm[Network]):
    """Asks what a new network is to be; only the name is required."""

    FIELDS = (
        ("name", "Name", "letters, digits, _ . and -"),
        ("subnet", "Subnet", "drawn when empty; 10.5.0.0/24, fd00:5::/64"),
        ("gateway", "Gateway", "the first address when empty"),
        ("range", "Range", "all of the subnet; 10.5.0.128/25"),
    )

    def __init__(self, bridge: Bridge) -> None:
        super().__init__("Make a network", bridge)

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        with self.frame(keys=" enter make   tab next field   space tick   esc cancel "):
            yield from self._fields()
            with Horizontal(classes="form-row"):
                yield Static("Options", classes="form-label")
                yield Tick("internal: nothing in or out", id="internal", compact=True)
                yield Tick("IPv6, too", id="ipv6", compact=True)
            yield Static("", classes="problem", markup=False)

    def _call(self) -> Coroutine[object, object, Network]:
        name = self._value("name")
        if not name:
            raise FieldError("name", "Name: which?")
        subnets = parse_subnets(self._value("subnet"), self._value("gateway"), self._value("range"))
        request = NetworkRequest(
            name=name,
            subnets=subnets,
            is_internal=self.query_one("#internal", Checkbox).value,
            # Whoever gives an IPv6 subnet wants IPv6.
            has_ipv6=self.query_one("#ipv6", Checkbox).value
            or any(":" in one.subnet for one in subnets),
        )
        return self._bridge.call(lambda engine: engine.create_network(request))


class ConnectScreen(_AskingForm[AttachmentRequest]):
    """Asks what a container is to be called in a network and where; nothing is required."""

    FIELDS = (
        ("aliases", "Also called", "further names for the others in it"),
        ("address", "Address", "drawn when empty"),
    )

    def __init__(self, bridge: Bridge, container: ContainerSummary, network: Network) -> None:
        name = clean(container.name, limit=60)
        super().__init__(f"Connect {name} to {clean(network.name, limit=60)}", bridge)
        self._container = container
        self._network = network

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        with self.frame(keys=" enter connect   tab next field   esc cancel "):
            subnets = " and ".join(one.subnet for one in self._network.subnets)
            when = (
                "at once"
                if self._container.status in (ContainerStatus.RUNNING, ContainerStatus.PAUSED)
                else "when it runs"
            )
            text = f"It gets an address of {subnets} {when}."
            yield Static(safe_text(text), markup=False, classes="form-note")
            yield from self._fields()
            yield Static("", classes="problem", markup=False)

    def _call(self) -> Coroutine[object, object, AttachmentRequest]:
        addresses: dict[int, str] = {}
        for word in _words(self._value("address")):
            try:
                address = ipaddress.ip_address(word)
            except ValueError:
                raise FieldError("address", f"Address: {word!r} is no address") from None
            if address.version in addresses:
                raise FieldError("address", f"Address: one IPv{address.version} address at most")
            addresses[address.version] = word
        request = AttachmentRequest(
            network=self._network.network_id,
            aliases=_words(self._value("aliases")),
            ipv4_address=addresses.get(4, ""),
            ipv6_address=addresses.get(6, ""),
        )
        return self._connect(request)

    async def _connect(self, request: AttachmentRequest) -> AttachmentRequest:
        await self._bridge.call(
            lambda engine: engine.connect_network(self._container.container_id, request)
        )
        return request
