"""What a step is made of, by name, and the keys that follow from it.

The same inputs on the same files give the same layer, so their digest is what a step is found by.
The inputs are kept: whoever asks why a step was run again is told which of them is another one.
"""

from __future__ import annotations

import hashlib

import msgspec

KEY_VERSION = 2
"""Part of every key: steps of a builder that works differently are not the same."""
MOST_LISTED_FILES = 20_000


class ListedFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that a step copies, as far as it is told apart from an earlier one."""

    path: str
    kind: str
    mode: int
    content: str


class StepInputs(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a step is made of, but for what it stands on.

    Attributes:
        kind: `RUN`, `COPY`, `ADD` or `WORKDIR`.
        arguments: The command line.
        environment: `NAME=value`, sorted.
        mounts: Each as a text that has everything of it that counts.
        options: Name and value of whatever else counts, sorted.
        files: Digest of all files that are copied or mounted; empty without any.
        listing: These files, if they are not too many; not part of any digest.
    """

    kind: str
    version: int = KEY_VERSION
    arguments: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    user: str = ""
    working_directory: str = ""
    network: str = ""
    platform: str = ""
    mounts: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    files: str = ""
    listing: tuple[ListedFile, ...] = ()

    @property
    def digest(self) -> str:
        """Of everything that counts."""
        return _digest(msgspec.json.encode(msgspec.structs.replace(self, listing=())))

    def encode(self) -> bytes:
        """As the cache keeps it."""
        return msgspec.json.encode(self)


def decode_inputs(document: bytes) -> StepInputs | None:
    """What the cache has kept; None if an older version wrote something else."""
    try:
        return msgspec.json.decode(document, type=StepInputs)
    except msgspec.DecodeError:
        return None


def step_key(parent_chain_id: str, inputs_digest: str) -> str:
    """The key of a step: of its inputs and of the files that it stands on.

    Not of the steps that made these: one that was run again, and gave the same, changes nothing
    for those above it.
    """
    return _digest(f"{parent_chain_id} {inputs_digest}".encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
