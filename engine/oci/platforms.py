"""Which image runs where: an index is read for a host, or for what a person asked for.

Source: OCI image-spec 1.1 (image-index.md, "Platform Variants"), and containerd's rules for what
a variant runs besides itself.
"""

from __future__ import annotations

import platform as host
import re
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError, PlatformMismatchError
from engine.oci.documents import ATTESTATION_ANNOTATION, Platform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.oci.documents import Descriptor

_ARCHITECTURES = {
    # uname: GOARCH
    "x86_64": "amd64",
    "x86-64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "i386": "386",
    "i686": "386",
    "armv7l": "arm",
    "armv6l": "arm",
}
_UNSAID_RANK = 1000
_VARIANT_NUMBERS = tuple(str(number) for number in range(10))
_COMPATIBLE = {
    # Host: what it runs, best first, as (architecture, variant); an empty variant is the base.
    "amd64": (("amd64", ""), ("amd64", "v1")),
    "arm64": (("arm64", "v8"), ("arm64", "")),
}


# Of what is offered to choose from; an index can say anything.
MOST_PLATFORMS = 64
_LONGEST_PLATFORM = 100
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_OPERATING_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd", "wasip1"})
# What no variant means (containerd, platforms/database.go).
_BASE_VARIANTS = {"arm": 7, "arm64": 8, "amd64": 1}
_OLDEST_VARIANTS = {"arm": 5, "arm64": 8, "amd64": 1}


def host_platform() -> Platform:
    """What this host runs."""
    machine = host.machine()
    return Platform(os="linux", architecture=_ARCHITECTURES.get(machine, machine))


def wanted_platform(text: str) -> Platform:
    """What a person asked for; this host's if it is empty.

    Raises:
        InvalidInputError: It is no platform.
    """
    return parse_platform(text) if text else host_platform()


def platform_rank(image: Platform, on: Platform) -> int | None:
    """How well a platform fits a host: 0 is best, None does not run there.

    An amd64 image for v2 or v3 is taken when nothing plainer is there, the lowest first: whether
    the processor has what it needs shows when it runs, as with Docker.
    """
    # Some builders wrote `x86_64`, others `arm64/v8`.
    architecture = image.architecture.partition("/")[0]
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if (image.os or "linux") != on.os or architecture != on.architecture:
        return None
    if on.variant or on.architecture == "arm":
        return _variant_rank(image.variant, on)
    known = _COMPATIBLE.get(on.architecture, ((on.architecture, ""),))
    pair = (architecture, image.variant)
    if pair in known:
        return known.index(pair)
    number = image.variant.removeprefix("v")
    return len(known) + (int(number) if number in _VARIANT_NUMBERS else len(_VARIANT_NUMBERS))


def _variant_rank(variant: str, on: Platform) -> int | None:
    """How well a variant fits the one asked for: the same is best, a newer one does not run."""
    base = _BASE_VARIANTS.get(on.architecture)
    if base is None:
        return 0 if variant == on.variant else None
    wanted = _variant_number(on.variant, base)
    number = _variant_number(variant, base)
    if wanted is None or number is None:
        return 0 if variant == on.variant else None
    return wanted - number if _OLDEST_VARIANTS[on.architecture] <= number <= wanted else None


def _variant_number(variant: str, base: int) -> int | None:
    number = variant.removeprefix("v")
    return int(number) if number in _VARIANT_NUMBERS else (None if variant else base)


def platform_mismatch(
    label: str, platforms: Iterable[str], wanted: Platform
) -> PlatformMismatchError:
    """The error for an image that is for other platforms; `label` is its archive or its name."""
    return PlatformMismatchError(
        label,
        platforms=tuple(one for one in dict.fromkeys(platforms) if len(one) <= _LONGEST_PLATFORM)[
            :MOST_PLATFORMS
        ],
        wanted=str(wanted),
        is_host=wanted == host_platform(),
    )


def parse_platform(text: str) -> Platform:
    """Read `linux/arm64`, `linux/arm/v7`, `arm64`; uname's words are taken as well.

    Raises:
        InvalidInputError: It is none.
    """
    words = text.split("/")
    if not 1 <= len(words) <= 3 or not all(map(_WORD.fullmatch, words)):
        raise InvalidInputError(
            f"{text!r} is an invalid platform: expected OS/ARCHITECTURE[/VARIANT]",
            hint="For example linux/amd64, linux/arm64 or linux/arm/v7",
        )
    words = [word.lower() for word in words]
    if len(words) == 1:
        word = words[0]
        if word in _OPERATING_SYSTEMS:
            return Platform(os=word, architecture=host_platform().architecture)
        words = ["linux", word]
    system, architecture, *variants = words
    return Platform(
        os=system,
        architecture=_ARCHITECTURES.get(architecture, architecture),
        variant=variants[0] if variants else "",
    )


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether a manifest is about another one, as BuildKit writes them, and no image."""
    return ATTESTATION_ANNOTATION in (descriptor.annotations or {}) or (
        descriptor.platform is not None and descriptor.platform.os == "unknown"
    )


def choose_manifests(descriptors: Iterable[Descriptor], on: Platform) -> tuple[Descriptor, ...]:
    """Those of some manifests that are for a host, best first; attestations are left out.

    Descriptors without a platform come last, in their order: whoever follows them checks the
    config.
    """
    ranked: list[tuple[int, Descriptor]] = []
    for descriptor in descriptors:
        if is_attestation(descriptor):
            continue
        if descriptor.platform is None or not descriptor.platform.architecture:
            ranked.append((_UNSAID_RANK, descriptor))
            continue
        rank = platform_rank(descriptor.platform, on)
        if rank is not None:
            ranked.append((rank, descriptor))
    return tuple(descriptor for _rank, descriptor in sorted(ranked, key=lambda pair: pair[0]))
