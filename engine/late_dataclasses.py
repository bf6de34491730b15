"""`dataclass` for frozen records, which compiles when a class is first used.

The decorator of the standard library compiles six functions for each class, which takes half a
millisecond; a command loads a hundred classes of records and makes instances of a few. To type
checkers, `dataclasses.fields`, `dataclasses.replace` and msgspec these are dataclasses like others.
"""

from __future__ import annotations

import dataclasses
import operator
from types import FunctionType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass
    from typing import ClassVar

__all__ = ("compile_all", "dataclass")

_Class = TypeVar("_Class", bound=type)

_uncompiled: dict[type, None] = {}
"""Classes of which no instance was made yet."""


def compile_all() -> None:
    """Compile what is not compiled yet: a process that forks does it once for all."""
    while _uncompiled:
        _compile(next(iter(_uncompiled)))


if not TYPE_CHECKING:

    def dataclass(
        *, frozen: bool, slots: bool, kw_only: bool = False
    ) -> Callable[[_Class], _Class]:
        """As that of the standard library, for records that are frozen and have slots."""
        if not (frozen and slots):
            raise TypeError("what can change is for the dataclass of the standard library")

        def decorate(cls: _Class) -> _Class:
            # The standard library would make a docstring of a signature, and look for that.
            cls.__doc__ = cls.__doc__ or cls.__name__
            # It collects the fields, and compiles nothing.
            collect = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)
            return _with_slots(collect(cls))

        return decorate


class _Methods:
    """The same for every class, where the standard library compiles one for each."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]
    _compared_values: object

    def __repr__(self) -> str:
        shown = (field.name for field in dataclasses.fields(self) if field.repr)
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({values})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._compared_values == other._compared_values

    def __hash__(self) -> int:
        return hash(self._compared_values)

    def __setattr__(self, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self) -> list[object]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def __setstate__(self, state: list[object]) -> None:
        for field, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, field.name, value)


_METHODS = {
    name: value for name, value in vars(_Methods).items() if isinstance(value, FunctionType)
}


def _with_slots(cls: _Class) -> _Class:
    """Make the class again: slots and their defaults cannot both be attributes of it."""
    fields = dataclasses.fields(cls)
    inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__slots__", ())}
    names = [field.name for field in fields]
    namespace = {
        name: value
        for name, value in vars(cls).items()
        if name not in {*names, "__dict__", "__weakref__"}
    }

    def __init__(self: object, /, *values: object, **named: object) -> None:  # noqa: N807
        _compile(made)(self, *values, **named)

    compared = [field.name for field in fields if field.compare]
    defaults: dict[str, object] = {
        **_METHODS,
        "__init__": __init__,
        "__slots__": tuple(name for name in names if name not in inherited),
        "__qualname__": cls.__qualname__,
        # In C, where a method would be compiled for each class.
        "_compared_values": property(operator.attrgetter(*compared)) if compared else (),
    }
    made = type(cls)(cls.__name__, cls.__bases__, {**defaults, **namespace})
    _uncompiled[made] = None
    return made


def _compile(cls: type) -> Callable[..., None]:
    """Put the real `__init__` in the place of the one that comes here."""
    _uncompiled.pop(cls, None)
    # One function for all fields: what a process touches after a fork, it has to copy.
    scope: dict[str, object] = {"_missing": dataclasses.MISSING, "_set": object.__setattr__}
    positional: list[str] = []
    named: list[str] = []
    lines: list[str] = []
    for field in dataclasses.fields(cls):
        name = field.name
        parameter = value = name
        if field.default is not dataclasses.MISSING:
            scope[f"_default_{name}"] = field.default
            parameter = f"{name}=_default_{name}"
        elif field.default_factory is not dataclasses.MISSING:
            scope[f"_make_{name}"] = field.default_factory
            parameter = f"{name}=_missing"
            value = f"_make_{name}() if {name} is _missing else {name}"
        (named if field.kw_only else positional).append(parameter)
        lines.append(f" _set(self, {name!r}, {value})\n")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()\n")
    star = ["*"] if named else []
    parameters = ", ".join(("self", *positional, *star, *named))
    source = f"def __init__({parameters}):\n{''.join(lines) or ' pass'}"
    exec(source, scope)
    compiled = scope["__init__"]
    assert isinstance(compiled, FunctionType)
    compiled.__qualname__ = f"{cls.__qualname__}.__init__"
    type.__setattr__(cls, "__init__", compiled)
    return compiled
