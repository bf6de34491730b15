"""Why a step is not in the cache: what is another way than in the nearest earlier one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import (
    MAXIMUM_REASONS,
    CacheOutcome,
    CacheReason,
    CacheReasonKind,
    CacheVerdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.build.keys import ListedFile, StepInputs

_SHOWN_CHARACTERS = 60


def unused() -> CacheVerdict:
    """Of a step that was not to be taken from the cache."""
    return _verdict(
        [_reason(CacheReasonKind.NOT_WANTED, "the build was told not to use the cache")],
        CacheOutcome.UNUSED,
    )


def first_build(text: str) -> CacheVerdict:
    """Of a step that has no earlier one like it."""
    return _verdict([_reason(CacheReasonKind.FIRST_BUILD, f"no earlier build had `{text}`")])


def gone() -> CacheVerdict:
    """Of a step whose layer was removed."""
    text = "it was built before, and its layer was removed or is damaged"
    return _verdict([_reason(CacheReasonKind.GONE, text)])


def parent_changed(what: str) -> CacheReason:
    """The step itself is the same."""
    return _reason(CacheReasonKind.PARENT, f"{what} is another one than before")


def base_changed(name: str) -> CacheReason:
    """The image is another one."""
    return _reason(CacheReasonKind.BASE, f"the base image {name} is another one than before", name)


def compare(before: StepInputs, now: StepInputs, parent: CacheReason | None = None) -> CacheVerdict:
    """Of a step that has an earlier one which was made of something else.

    Args:
        before: What that was made of.
        now: What this one is.
        parent: If what they stand on differs, that.
    """
    reasons = [*_differences(before, now)]
    if parent is not None:
        reasons.insert(0, parent)
    return _verdict(reasons)


def _differences(before: StepInputs, now: StepInputs) -> Iterable[CacheReason]:
    if before.arguments != now.arguments:
        yield _reason(
            CacheReasonKind.COMMAND,
            f"the command was {_shown(' '.join(before.arguments))}",
        )
    yield from _compare_variables(before.environment, now.environment)
    for kind, what, old, new in (
        (CacheReasonKind.USER, "the user", before.user, now.user),
        (
            CacheReasonKind.WORKING_DIRECTORY, "the working directory",
            before.working_directory, now.working_directory,
        ),
        (CacheReasonKind.NETWORK, "the network", before.network, now.network),
        (CacheReasonKind.PLATFORM, "the platform", before.platform, now.platform),
    ):  # fmt: skip
        if old != new:
            yield _reason(kind, f"{what} was {_shown(old)}, and is {_shown(new)}")
    for text in sorted({*before.mounts} ^ {*now.mounts}):
        word = "new" if text in now.mounts else "gone"
        yield _reason(CacheReasonKind.MOUNT, f"a mount is {word}: {_shown(text)}", text)
    yield from _compare_options(before.options, now.options)
    if before.files != now.files:
        yield from _compare_files(before.listing, now.listing)


def _compare_variables(before: Sequence[str], now: Sequence[str]) -> Iterable[CacheReason]:
    old = dict(_pair(entry) for entry in before)
    new = dict(_pair(entry) for entry in now)
    for name in sorted({*old, *new}):
        if name not in old:
            text = f"{name} is set now: {_shown(new[name])}"
        elif name not in new:
            text = f"{name} is not set any more"
        elif old[name] != new[name]:
            text = f"{name} was {_shown(old[name])}, and is {_shown(new[name])}"
        else:
            continue
        yield _reason(CacheReasonKind.ENVIRONMENT, text, name)


def _pair(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _compare_options(
    before: Sequence[tuple[str, str]], now: Sequence[tuple[str, str]]
) -> Iterable[CacheReason]:
    old, new = dict(before), dict(now)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            text = f"{name} was {_shown(old.get(name, ''))}, and is {_shown(new.get(name, ''))}"
            yield _reason(CacheReasonKind.OPTION, text, name)


def _compare_files(
    before: Sequence[ListedFile], now: Sequence[ListedFile]
) -> Iterable[CacheReason]:
    if not before or not now:
        yield _reason(CacheReasonKind.FILE, "the files are others than before")
        return
    old = {file.path: file for file in before}
    new = {file.path: file for file in now}
    found = False
    for path in sorted({*old, *new}):
        text = _file_difference(old.get(path), new.get(path))
        if text:
            found = True
            yield _reason(CacheReasonKind.FILE, f"{_shown(path)} {text}", path)
    if not found:
        yield _reason(CacheReasonKind.FILE, "owners, links or attributes of files are others")


def _file_difference(old: ListedFile | None, new: ListedFile | None) -> str:
    if old is None:
        return "is new"
    if new is None:
        return "is gone"
    if old.kind != new.kind:
        return f"was a {old.kind}, and is a {new.kind}"
    if old.content != new.content:
        return "has another content"
    if old.mode != new.mode:
        return f"had mode {old.mode:04o}, and has {new.mode:04o}"
    return ""


def _shown(text: str) -> str:
    short = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return short or "empty"


def _reason(kind: CacheReasonKind, text: str, subject: str = "") -> CacheReason:
    return CacheReason(kind=kind, subject=subject, text=text)


def _verdict(
    reasons: Sequence[CacheReason], outcome: CacheOutcome = CacheOutcome.MISS
) -> CacheVerdict:
    return CacheVerdict(
        outcome=outcome, reasons=tuple(reasons[:MAXIMUM_REASONS]), reason_count=len(reasons)
    )
