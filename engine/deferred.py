"""Public names of a package that are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def deferred_names(
    package: str, names_by_module: Mapping[str, tuple[str, ...]]
) -> Callable[[str], object]:
    """Make the `__getattr__` of a package.

    A type checker does not follow it: the package imports the same names for it alone, and
    `tests/hygiene` compares the two.

    Args:
        package: Its `__name__`.
        names_by_module: What the package offers, and where it is.
    """
    modules = {name: module for module, names in names_by_module.items() for name in names}

    def load(name: str) -> object:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
