"""Keys that leave a program without ending it, in Docker's notation."""

from __future__ import annotations

from engine.errors import InvalidInputError

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


def parse_detach_keys(text: str) -> bytes:
    """Read `ctrl-p,ctrl-q`, `ctrl-]` or `a,b`; empty stands for the default, as with Docker.

    Raises:
        InvalidInputError: A key is neither a character nor `ctrl-` with one that control changes.
    """
    keys = bytearray()
    for word in (text or DEFAULT_DETACH_KEYS).split(","):
        name = word.removeprefix("ctrl-")
        if len(name) != 1 or not name.isascii():
            raise _invalid(text, word)
        if name == word:
            keys += name.encode()
        elif name.isalpha() or name in "@[\\]^_":
            keys.append(ord(name.upper()) & 0x1F)
        else:
            raise _invalid(text, word)
    return bytes(keys)


def _invalid(text: str, word: str) -> InvalidInputError:
    return InvalidInputError(
        f"Invalid detach keys ({text}) provided: unknown key: {word!r}",
        hint="keys are characters or ctrl-a to ctrl-z, ctrl-@ and so on, with commas between them",
    )


class DetachScanner:
    """Finds the keys in what is typed. The beginning of them is held until it is clear.

    Args:
        sequences: Each of them leaves.
    """

    def __init__(self, *sequences: bytes) -> None:
        self._sequences = sequences
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what goes to the program, and whether the keys were pressed (the rest is lost)."""
        passed = bytearray()
        for code in data:
            self._held += bytes([code])
            if self._held in self._sequences:
                self._held = b""
                return bytes(passed), True
            while self._held and not any(s.startswith(self._held) for s in self._sequences):
                passed += self._held[:1]
                self._held = self._held[1:]
        return bytes(passed), False
