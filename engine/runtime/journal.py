"""What a monitor writes down of its container: state.json, and events in the store's log."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
from typing import TYPE_CHECKING

from engine.runtime.spec import NetworkSpec
from engine.runtime.state_file import (
    append_container_event,
    append_network_events,
    append_volume_events,
    write_state_document,
)

if TYPE_CHECKING:
    from engine.runtime.records import RecordDocument
    from engine.runtime.spec import ContainerSpec, StateRecord

CONFIG_FILE = "config.json"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class ContainerJournal:
    """State and events of one container, written by the holder of its lock."""

    def __init__(
        self, spec: RecordDocument[ContainerSpec], state: RecordDocument[StateRecord]
    ) -> None:
        """Go on from a state; nothing is read of the documents yet."""
        self._spec_document = spec
        self._state_document = state
        self._name = ""

    @property
    def state(self) -> StateRecord:
        """What was written last."""
        return self._state_document.record

    @property
    def state_document(self) -> bytes:
        """The same as JSON."""
        return self._state_document.document

    @property
    def name(self) -> str:
        """The container's name now, for its events."""
        return self._name or self._spec.name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def _spec(self) -> ContainerSpec:
        return self._spec_document.record

    def resume(self, state_document: bytes) -> None:
        """Go on from what a starter has written."""
        self._state_document.receive(state_document)

    @property
    def told_state(self) -> StateRecord:
        """The state without what is long, and for who reads state.json.

        That is what probes wrote, and the network: thousands of ports fit into no packet.
        """
        health = self.state.health
        if health is not None:
            health = dataclasses.replace(health, results=())
        return dataclasses.replace(self.state, health=health, network=NetworkSpec())

    def begin(self, state: StateRecord) -> None:
        """Write down that the program runs.

        Raises:
            OSError: It cannot be written.
        """
        self._state_document.replace(state)
        self._write(is_durable=False)

    def change(self, state: StateRecord) -> None:
        """Write down what has changed, if it can be written.

        A full disk must not keep a container from being paused, let go on or started again.
        """
        with contextlib.suppress(OSError):
            self.begin(state)

    def fail(self, state: StateRecord) -> None:
        """Write down why a start has failed, if it can be written."""
        self._state_document.replace(state)
        with contextlib.suppress(OSError):
            self._write(is_durable=True)

    def end(self, state: StateRecord) -> None:
        """Write the end down, waiting out a full disk: nobody else knows the exit code."""
        self._state_document.replace(state)
        while True:
            try:
                self._write(is_durable=True)
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    return
                # Nothing tells when a person has made room: look again now and then.
                time.sleep(1.0)
            else:
                return

    def _write(self, *, is_durable: bool) -> None:
        write_state_document(
            self._spec.container_directory, self._state_document.document, is_durable=is_durable
        )

    def tell(self, action: str, **attributes: str) -> None:
        """Append an event about the container to the store's log."""
        append_container_event(
            self._spec.events_path,
            action,
            container_id=self._spec.container_id,
            name=self.name,
            attributes={"image": self._spec.image, **attributes},
            labels=self._spec.labels,
        )

    def tell_volumes(self, action: str) -> None:
        """Append an event about each of the container's volumes: `mount` or `unmount`."""
        append_volume_events(
            self._spec.events_path,
            action,
            container_id=self._spec.container_id,
            mounts=self._spec.mounts,
        )

    def tell_networks(self, action: str, network: NetworkSpec) -> None:
        """Append an event about each of its networks: `connect` or `disconnect`."""
        append_network_events(
            self._spec.events_path,
            action,
            container_id=self._spec.container_id,
            network=network,
        )


def write_config(directory: str, document: bytes) -> None:
    """Replace a container's config.json, what its monitor was told.

    Raises:
        OSError: It cannot be written.
    """
    path = f"{directory}/{CONFIG_FILE}"
    with open(f"{path}.tmp", "wb") as config:
        config.write(document)
    os.rename(f"{path}.tmp", path)
