"""Published ports: opened in a browser where there is one, copied where there is none."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from engine.types import ContainerStatus
from tui.browser import find_browser, open_in_browser
from tui.sanitise import clean
from tui.screens.actions import ActionScreen
from tui.short_ports import WebAddress, web_addresses

if TYPE_CHECKING:
    from engine.types import ContainerSummary

_RUNNING = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)
_JOIN = "container:"


class PublishedActions(ActionScreen):
    """The key that opens a port."""

    def action_open_port(self) -> None:
        """Open a published port of the container; of several, choose one."""
        container = self.chosen_container()
        if container is not None:
            self.open_port_of((container,))

    def open_port_of(self, containers: tuple[ContainerSummary, ...]) -> None:
        """Open a published port of one of these containers."""
        from tui.screens.dialogs import Choice, ChoiceScreen

        found = {
            f"{number}": (container, address)
            for number, (container, address) in enumerate(
                (container, address)
                for container in containers
                for address in web_addresses(container.ports, os.environ)
            )
        }
        if not found:
            self.tell(_why_none(containers), is_warning=True, seconds=8)
            return
        if len(found) == 1:
            self._open_address(found["0"][1])
            return

        def answered(number: str | None) -> None:
            if number is not None:
                self._open_address(found[number][1])

        choices = tuple(
            Choice(
                label=f"{address.url:<32} port {address.port.container_port} of {container.name}",
                value=number,
            )
            for number, (container, address) in found.items()
        )
        self.app.push_screen(ChoiceScreen("Open in a browser", choices), answered)

    def _open_address(self, address: WebAddress) -> None:
        self.run_task(lambda: self._browse(address), group="operation")

    async def _browse(self, address: WebAddress) -> None:
        browser = find_browser(os.environ)
        if browser is None:
            why = "No browser on this host that needs no terminal"
        else:
            self.tell(f"Opening {address.url}", remark=address.remark)
            if await asyncio.to_thread(open_in_browser, browser, address.url):
                return
            why = f"{os.path.basename(browser[0])} did not open it"
        self.app.copy_to_clipboard(address.url)
        self.tell(f"{why}: {address.url} is copied", remark=address.remark, seconds=8)


def _why_none(containers: tuple[ContainerSummary, ...]) -> str:
    if len(containers) != 1:
        return "Nobody here has a published TCP port; `lamella run -p 8080:80` publishes one"
    (container,) = containers
    name = clean(container.name, limit=128)
    if container.status not in _RUNNING:
        return f"{name} does not run: s starts it, and its ports are published then"
    if "host" in container.network_names:
        return f"{name} has the host's network: whatever it listens on is a port of this host's"
    if any(one.startswith(_JOIN) for one in container.network_names):
        return f"{name} shares another container's network: that one's ports are published"
    if container.ports:
        return f"{name} publishes no TCP port, which a browser needs"
    exposed = ", ".join(clean(one, limit=16) for one in container.exposed_ports[:4])
    listens = f"; its image listens on {exposed}" if exposed else ""
    return f"{name} publishes no port{listens}: `lamella run -p 8080:80` publishes one, or r"
