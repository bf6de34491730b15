"""What a container's processes may do: capabilities, system calls, what of /proc they see."""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError, LimitError
from engine.linux.capabilities import (
    CAPABILITY_NAMES,
    capability_number,
    last_capability,
    read_capabilities,
)
from engine.linux.seccomp import INSTRUCTION_BYTES, MOST_INSTRUCTIONS
from engine.linux.seccomp_compiler import compile_filter, compile_rules
from engine.runtime.isolation import DEFAULT_CAPABILITIES, READ_ONLY_PATHS, masked_paths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.types import ProcessOptions

UNCONFINED = "unconfined"
_ALL = "ALL"


@functools.cache
def available_capabilities(*, is_rootless: bool) -> frozenset[int]:
    """What containers can be given here: all of a user namespace, or what root itself has."""
    if is_rootless:
        return frozenset(range(last_capability() + 1))
    own = read_capabilities()
    return own.bounding & own.permitted


def resolve_capabilities(options: ProcessOptions, available: frozenset[int]) -> frozenset[int]:
    """The capabilities that the options come to, by Docker's rules (TweakCapabilities of moby).

    Raises:
        InvalidInputError: There is no such capability, or it cannot be given here.
    """
    added = _numbers(options.cap_add, available)
    dropped = _numbers(options.cap_drop, None)
    if options.is_privileged:
        return available
    if None in added:
        return available - dropped
    named = frozenset(number for number in added if number is not None)
    if None in dropped:
        return named
    return (DEFAULT_CAPABILITIES & available) - dropped | named


def _numbers(names: Iterable[str], available: frozenset[int] | None) -> frozenset[int | None]:
    """Numbers of capabilities; None is all of them."""
    found: set[int | None] = set()
    for name in names:
        word = name.upper()
        if word == _ALL:
            found.add(None)
            continue
        word = word if word.startswith("CAP_") else f"CAP_{word}"
        try:
            number = capability_number(word)
        except LimitError:
            raise InvalidInputError(
                f'unknown capability: "{word}"',
                hint=f"Known are ALL, {', '.join(CAPABILITY_NAMES)}",
            ) from None
        if available is not None and number not in available:
            raise InvalidInputError(
                "capability not supported by your kernel or not available in the current "
                f'environment: "{word}"',
                hint="Whoever started Lamella does not have it, and cannot pass it on",
            )
        found.add(number)
    return frozenset(found)


def seccomp_filter(options: ProcessOptions, capabilities: frozenset[int]) -> str:
    """The filter in base64, as a ProcessSpec has it; some milliseconds the first time.

    Raises:
        InvalidInputError: The profile cannot be used.
    """
    profile = options.seccomp_profile
    if profile == UNCONFINED or (options.is_privileged and not profile):
        return ""
    return _default_filter(capabilities) if not profile else _filter(profile, capabilities)


@functools.cache
def _default_filter(capabilities: frozenset[int]) -> str:
    return base64.b64encode(compile_filter(capabilities)).decode("ascii")


@functools.lru_cache(maxsize=16)
def _filter(profile: str, capabilities: frozenset[int]) -> str:
    # Loaded by who has a profile of his own.
    from engine.containers.seccomp_documents import read_profile

    program = compile_rules(read_profile(profile, capabilities))
    if len(program) > MOST_INSTRUCTIONS * INSTRUCTION_BYTES:
        raise InvalidInputError(
            f"the seccomp profile comes to {len(program) // INSTRUCTION_BYTES} instructions, and "
            f"the kernel takes {MOST_INSTRUCTIONS}",
            hint="Name fewer calls with arguments in it",
        )
    return base64.b64encode(program).decode("ascii")


def hidden_paths(options: ProcessOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths to mask, and paths to make read-only."""
    if options.is_privileged or options.has_unconfined_system_paths:
        return (), ()
    return masked_paths(), READ_ONLY_PATHS
