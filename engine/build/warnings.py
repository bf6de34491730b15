"""Warnings about a Dockerfile, and which of them somebody wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.build.spans import Source, Span
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.build.instructions import Dockerfile

_EXPERIMENTAL = ("InvalidDefinitionDescription",)
_ALL = "all"
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckWarning:
    """Something that a Dockerfile may say and better would not.

    Attributes:
        rule: The check's name: `StageNameCasing`.
        text: A sentence without a full stop.
    """

    rule: str
    text: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """Which checks are wanted.

    Attributes:
        skipped: Names of checks that are not wanted, or `all`.
        experimental: Names of experimental ones that are, or `all`.
        is_error: A warning fails the build.
    """

    skipped: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    is_error: bool = False

    def has(self, rule: str) -> bool:
        """Whether a check is wanted."""
        if rule in _EXPERIMENTAL and not self.experimental & {rule, _ALL}:
            return False
        return not self.skipped & {rule, _ALL}


def parse_check_options(dockerfile: Dockerfile) -> CheckOptions:
    """What the `# check=` at the top of a Dockerfile says.

    Raises:
        DockerfileError: It cannot be read.
    """
    for directive in dockerfile.directives:
        if directive.name == "check":
            try:
                return read_check_options(directive.value.text)
            except ValueError as error:
                source = Source(dockerfile.name, list(dockerfile.lines))
                raise source.error(
                    directive.value.span.start,
                    f"failed to parse check options: {error}",
                    expected="skip=NAME,NAME;error=true;experimental=NAME",
                ) from None
    return CheckOptions()


def read_check_options(text: str) -> CheckOptions:
    """Read `skip=NAME,NAME;error=true;experimental=NAME`.

    Raises:
        ValueError: It is something else.
    """
    skipped: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    is_error = False
    for part in filter(None, (each.strip() for each in text.split(";"))):
        key, equals, value = (each.strip() for each in part.partition("="))
        names = frozenset(name.strip() for name in value.split(",") if name.strip())
        if not equals:
            raise ValueError(f"invalid check option {part!r}")
        if key == "skip":
            skipped = names
        elif key == "experimental":
            experimental = names
        elif key == "error" and value in (*_TRUE, *_FALSE):
            is_error = value in _TRUE
        elif key == "error":
            raise ValueError(f"invalid value for error: {value!r}")
        else:
            raise ValueError(f"invalid check option {key!r}")
    return CheckOptions(skipped=skipped, experimental=experimental, is_error=is_error)
