"""What work in a store has left in its staging area."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def left_in_staging(root: Path) -> list[str]:
    """The claims of work that should have ended; `root` is the store's.

    An engine that has just started sweeps behind its start, whenever it comes to that.
    """
    return sorted(
        path.name for path in (root / "staging").glob("[!.]*") if not path.name.startswith("sweep-")
    )
