"""Errors about networks, addresses and ports."""

from __future__ import annotations

from engine.errors.kinds import ConflictError, NotFoundError


class NetworkNotFoundError(NotFoundError):
    """No network matches the id, its beginning, or the name; the text is Docker's."""

    def __init__(self, reference: str, *, hint: str = "") -> None:
        listed = "`lamella network ls` lists every network"
        super().__init__(f"network {reference} not found", hint=hint or listed)
        self.reference = reference


class NetworkInUseError(ConflictError):
    """A network cannot be removed because containers run in it; the text is Docker's."""

    def __init__(self, name: str, network_id: str, *, members: tuple[tuple[str, str], ...]) -> None:
        said = ", ".join(f'name:"{member}" id:"{identity[:12]}"' for member, identity in members)
        super().__init__(
            f"error while removing network: network {name} has active endpoints ({said})",
            hint="Stop the containers, or take them out with `lamella network disconnect`",
        )
        self.name = name
        self.network_id = network_id
        self.members = members


class NetworkNameInUseError(ConflictError):
    """A network's name is taken; the text is Docker's."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"network with name {name} already exists",
            hint=f"`lamella network rm {name}` removes it",
        )
        self.name = name


class AddressInUseError(ConflictError):
    """Another container has the address that was asked for, or the host; the text is Docker's."""

    exit_code = 125

    def __init__(self, address: str) -> None:
        super().__init__(
            f"Address already in use: {address}",
            hint="Leave --ip out to have a free one drawn, or name another",
        )
        self.address = address


class PoolExhaustedError(ConflictError):
    """Every address of a network is in use; the text is Docker's."""

    exit_code = 125

    def __init__(self, subnet: str) -> None:
        super().__init__(
            f"no available IPv{6 if ':' in subnet else 4} addresses on this network's address "
            f"pools: {subnet}",
            hint="Make a network with a larger --subnet or --ip-range",
        )
        self.subnet = subnet


class PortInUseError(ConflictError):
    """Something on the host has a port that is to be published; the text is Docker's."""

    exit_code = 125

    def __init__(
        self, address: str, port: int, *, reason: str = "port is already allocated"
    ) -> None:
        shown = f"[{address}]" if ":" in address else address
        super().__init__(
            f"Bind for {shown}:{port} failed: {reason}",
            hint="Publish another port with -p, or end what has this one",
        )
        self.address = address
        self.port = port


class AttachmentError(ConflictError):
    """A container cannot be put into a network or taken out of it."""

    exit_code = 125
