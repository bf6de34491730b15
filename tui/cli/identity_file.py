"""The file of `--cidfile`, which holds a new container's id for scripts."""

from __future__ import annotations

import contextlib
import os

from engine.errors import InvalidInputError


class IdentityFile:
    """Claimed before the container is made, so that no two containers write to one file.

    It stays when there is a container; without one it goes again.
    """

    def __init__(self, path: str) -> None:
        """Make the file.

        Raises:
            InvalidInputError: It is there already, or cannot be made.
        """
        self._path = path
        try:
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
            )
        except FileExistsError:
            raise InvalidInputError(
                "container ID file found, make sure the other container isn't running or delete "
                f"{path}",
                hint=f"`rm {path}` if its container is not needed any more",
            ) from None
        except OSError as error:
            raise InvalidInputError(
                f"failed to create the container ID file: {path}: {error.strerror}",
                hint="--cidfile takes a path in a directory that you may write to",
            ) from None

    def write(self, container_id: str) -> None:
        """Put the id in, for good."""
        os.write(self._descriptor, container_id.encode())
        os.close(self._descriptor)

    def discard(self) -> None:
        """Remove the file: no container was made."""
        os.close(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
