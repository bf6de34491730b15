"""What the application has told its user, for as long as the test goes on.

Its toasts go after seconds, which a busy machine may take until the test reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from textual.notifications import Notification, Notifications

if TYPE_CHECKING:
    import pytest
    from textual.app import App

_TOLD: WeakKeyDictionary[Notifications, list[str]] = WeakKeyDictionary()


def remember(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each notice of every application written down."""
    add = Notifications.add

    def add_and_remember(self: Notifications, notification: Notification) -> Notifications:
        _TOLD.setdefault(self, []).append(notification.message)
        return add(self, notification)

    monkeypatch.setattr(Notifications, "add", add_and_remember)


def notices(app: App[None]) -> list[str]:
    """Each on its own, in the order in which they came."""
    return _TOLD.get(app._notifications, [])


def told(app: App[None]) -> str:
    """All of them."""
    return "\n".join(notices(app))
