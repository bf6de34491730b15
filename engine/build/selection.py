"""Which files COPY and ADD mean, and what makes them others than before.

Rules are those of BuildKit: a directory gives what is in it, a wildcard is Go's filepath.Match, a
link that is named is followed inside the tree and keeps its name, links in a directory stay links.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import TYPE_CHECKING

import msgspec

from engine.build.file_tree import SourceFile, follow
from engine.build.ignore import IgnoreRules, parse_exclusions
from engine.build.patterns import clean_path, compile_deep_match, compile_match, has_wildcards
from engine.errors import BuildCopyError, BuildSourceNotFoundError
from engine.late_dataclasses import dataclass
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.build.file_tree import FileTree
    from engine.build.ignore import IgnoreScope

_MOST_FILES = 2_000_000
_DIGEST_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceQuery:
    """What an instruction says of its sources, variables expanded.

    Attributes:
        sources: Paths and patterns, as the Dockerfile has them.
        exclusions: `--exclude`.
        keeps_parents: `--parents`.
    """

    sources: tuple[str, ...]
    exclusions: tuple[str, ...] = ()
    keeps_parents: bool = False


class SelectedSource(msgspec.Struct, array_like=True, kw_only=True):
    """One source, or one match of a pattern.

    Attributes:
        text: Of the source, for messages.
        name: What a file is called when it is copied into a directory.
        is_directory: Its content is meant: `files` is what is in it, parents first. Otherwise
            `files` is the one file itself.
        files: Each with its `target`.
        root: Which of the trees of an instruction it is from.
        content: Of a file that stands in the Dockerfile itself; None for others.
        is_archive: ADD unpacks it.
    """

    text: str
    name: bytes
    is_directory: bool
    files: list[SourceFile]
    root: int = 0
    content: bytes | None = None
    is_archive: bool = False


class Selection(msgspec.Struct, array_like=True, kw_only=True):
    """All that one instruction copies from one tree.

    Attributes:
        sources: In their order: a later one replaces what an earlier one has made.
        warnings: One sentence each.
    """

    sources: list[SelectedSource]
    warnings: list[str]

    def files(self) -> Iterator[SourceFile]:
        """Every file."""
        for source in self.sources:
            yield from source.files

    @property
    def file_count(self) -> int:
        """How many names there are to copy."""
        return sum(len(source.files) for source in self.sources)

    @property
    def size_bytes(self) -> int:
        """Of all regular files, each name counted."""
        return sum(file.size_bytes for file in self.files())

    def digest(self) -> str:
        """A digest of what is copied: names below the destination, looks and contents.

        Time stamps do not count, nor does what the sources themselves are called where that does
        not show: a directory's name, the way to a file. Contents must have been digested.
        """
        digest = hashlib.sha256()
        for source in self.sources:
            name = b"" if source.is_directory or source.is_archive else source.name
            head = (source.is_directory, source.is_archive, name)
            digest.update(msgspec.msgpack.encode(head))
            firsts: dict[bytes, bytes] = {}
            for start in range(0, len(source.files), _DIGEST_BATCH):
                batch = [
                    _digested(file, firsts) for file in source.files[start : start + _DIGEST_BATCH]
                ]
                digest.update(msgspec.msgpack.encode(batch))
        return f"sha256:{digest.hexdigest()}"


def _digested(file: SourceFile, firsts: dict[bytes, bytes]) -> tuple[object, ...]:
    first = firsts.setdefault(file.shared_as, file.target) if file.shared_as else file.target
    return (
        file.target,
        file.kind,
        0o777 if file.kind is FileKind.SYMLINK else file.mode,
        file.user_id,
        file.group_id,
        file.link,
        file.device,
        file.content_digest,
        file.xattrs_digest,
        b"" if first == file.target else first,
    )


def select_sources(tree: FileTree, query: SourceQuery) -> Selection:
    """Find what a query means; blocking. Contents are not read: `digest_selection` does that.

    Raises:
        BuildSourceNotFoundError: A source that is no pattern is not there.
        PathPatternError: A pattern is malformed.
        BuildCopyError: There are too many files, or one may not be looked at.
    """
    exclusions = IgnoreRules(parse_exclusions(query.exclusions))
    finder = _Finder(tree, exclusions)
    sources: list[SelectedSource] = []
    warnings: list[str] = []
    for text in query.sources:
        found = finder.with_parents(text) if query.keeps_parents else finder.plain(text)
        if not found:
            warnings.append(f'no file matches "{text}" in {tree.label}')
        sources += found
    return Selection(sources=sources, warnings=warnings)


def inline_source(name: str, content: bytes) -> SelectedSource:
    """A file that stands in the Dockerfile: root's, and readable for everybody."""
    file = SourceFile(
        path=b"",
        kind=FileKind.FILE,
        mode=0o644,
        user_id=0,
        group_id=0,
        size_bytes=len(content),
        mtime_ns=0,
        content_digest=hashlib.sha256(content).digest(),
    )
    return SelectedSource(
        text=f"<<{name}", name=os.fsencode(name), is_directory=False, files=[file], content=content
    )


def digest_selection(tree: FileTree, selection: Selection) -> None:
    """Have the contents of everything that was selected digested; blocking.

    Raises:
        BuildSourceChangedError: A file changes all the time.
        BuildCopyError: A file may not be read.
    """
    wanted = [
        file for file in selection.files() if file.kind is FileKind.FILE and not file.content_digest
    ]
    tree.digest_contents(wanted)


class _Finder:
    def __init__(self, tree: FileTree, exclusions: IgnoreRules) -> None:
        self._tree = tree
        self._exclusions = exclusions
        self._count = 0

    def plain(self, text: str) -> list[SelectedSource]:
        """A source without --parents."""
        path = clean_path("/" + text).lstrip("/")
        if not has_wildcards(path):
            found = self._named(text, os.fsencode(path))
            return [] if found is None else [found]
        sources = []
        for match in self._matches(path):
            found = self._named(text, match)
            if found is not None:
                sources.append(found)
        return sources

    def _named(self, text: str, path: bytes) -> SelectedSource | None:
        """What is at a path; None if it is excluded."""
        file = follow(self._tree, path)
        if file is None:
            raise self._not_found(text, path)
        name = path.rpartition(b"/")[2]
        if file.kind is FileKind.DIRECTORY:
            files = list(self._below(file.path, self._exclusions.root))
            return SelectedSource(text=text, name=name, is_directory=True, files=files)
        if self._exclusions.is_ignored(os.fsdecode(name)):
            return None
        self._add(1)
        return SelectedSource(text=text, name=name, is_directory=False, files=[file])

    def _not_found(self, text: str, path: bytes) -> BuildSourceNotFoundError:
        at_path = self._tree.look(path) if path else None
        return BuildSourceNotFoundError(
            text,
            where=self._tree.label,
            ignored_by=self._tree.reason_missing(path),
            leads_to="" if at_path is None else os.fsdecode(at_path.link),
        )

    # --- patterns -----------------------------------------------------------------------------

    def _matches(self, path: str) -> Iterator[bytes]:
        """Paths that a pattern matches; what is in a directory that matches is not looked at."""
        names = path.split("/")
        plain_count = next(position for position, name in enumerate(names) if has_wildcards(name))
        names = names[plain_count:]
        ways = [compile_match("/".join(names[: count + 1])) for count in range(len(names))]
        # A class may match a slash: then a name of the pattern is no name of the path.
        slash_count = "/".join(names).count("[")
        top = follow(self._tree, os.fsencode("/".join(path.split("/")[:plain_count])))
        if top is None or top.kind is not FileKind.DIRECTORY:
            return
        prefix_length = len(top.path) + 1 if top.path else 0
        pending = list(reversed(self._tree.children(top.path)))
        while pending:
            file = pending.pop()
            relative = os.fsdecode(file.path[prefix_length:])
            depth = relative.count("/") + 1
            if ways[-1](relative):
                yield file.path
            elif (
                file.kind is FileKind.DIRECTORY
                and depth < len(names) + slash_count
                and (slash_count or ways[depth - 1](relative))
            ):
                pending += reversed(self._tree.children(file.path))

    # --- directories --------------------------------------------------------------------------

    def _below(self, path: bytes, scope: IgnoreScope) -> Iterator[SourceFile]:
        """What is in a directory and not excluded, parents first, with targets from there."""
        prefix_length = len(path) + 1 if path else 0
        pending: list[tuple[SourceFile, IgnoreScope]] = []
        # An excluded directory is made only when something in it is kept.
        held: list[SourceFile] = []
        self._push(pending, path, scope)
        while pending:
            file, own_scope = pending.pop()
            file.target = file.path[prefix_length:]
            is_directory = file.kind is FileKind.DIRECTORY
            if not self._exclusions.is_empty:
                own_scope = own_scope.enter(os.fsdecode(file.path.rpartition(b"/")[2]))
            while held and not file.path.startswith(held[-1].path + b"/"):
                held.pop()
            if own_scope.is_ignored:
                if not is_directory or not own_scope.may_hold:
                    continue
                held.append(file)
            else:
                self._add(len(held) + 1)
                yield from held
                held.clear()
                yield file
            if is_directory:
                self._push(pending, file.path, own_scope)

    def _push(
        self, pending: list[tuple[SourceFile, IgnoreScope]], path: bytes, scope: IgnoreScope
    ) -> None:
        pending.extend((child, scope) for child in reversed(self._tree.children(path)))

    # --- parents ------------------------------------------------------------------------------

    def with_parents(self, text: str) -> list[SelectedSource]:
        """A source with --parents: what matches keeps its directories from the pivot `/./` on."""
        pivot, has_pivot, kept = text.partition("/./")
        if not has_pivot:
            pivot, kept = "", text
        top = follow(self._tree, os.fsencode(clean_path("/" + pivot).lstrip("/")))
        pattern = clean_path("/" + kept).lstrip("/")
        found: list[SourceFile] = []
        if top is not None and top.kind is FileKind.DIRECTORY:
            if not pattern:
                found = list(self._below(top.path, self._exclusions.root))
            else:
                found = list(self._matching_below(top.path, pattern))
        if not found:
            if not has_wildcards(pattern):
                raise self._not_found(text, os.fsencode(pattern))
            return []
        return [SelectedSource(text=text, name=b"", is_directory=True, files=found)]

    def _matching_below(self, path: bytes, pattern: str) -> Iterator[SourceFile]:
        """Files below a directory that match, or are in one that does, after their parents."""
        matches = compile_deep_match(pattern)
        plain_names = list(itertools.takewhile(_is_plain, pattern.split("/")))
        prefix_length = len(path) + 1 if path else 0
        held: list[SourceFile] = []
        pending: list[tuple[SourceFile, bool, IgnoreScope]] = []

        def push(directory: bytes, scope: IgnoreScope, *, is_wanted: bool) -> None:
            children = reversed(self._tree.children(directory))
            pending.extend((child, is_wanted, scope) for child in children)

        push(path, self._exclusions.root, is_wanted=False)
        while pending:
            file, is_in_match, parent_scope = pending.pop()
            file.target = file.path[prefix_length:]
            scope = parent_scope.enter(os.fsdecode(file.target.rpartition(b"/")[2]))
            is_wanted = is_in_match or matches(os.fsdecode(file.target))
            while held and not file.path.startswith(held[-1].path + b"/"):
                held.pop()
            is_directory = file.kind is FileKind.DIRECTORY
            if is_wanted and not scope.is_ignored:
                self._add(len(held) + 1)
                yield from held
                held.clear()
                yield file
            elif is_directory:
                held.append(file)
            names = os.fsdecode(file.target).split("/")
            is_on_the_way = all(map(str.__eq__, names, plain_names))
            if is_directory and scope.may_hold and (is_wanted or is_on_the_way):
                push(file.path, scope, is_wanted=is_wanted)

    def _add(self, count: int) -> None:
        self._count += count
        if self._count > _MOST_FILES:
            raise BuildCopyError(
                f"more than {_MOST_FILES:,} files are to be copied at once",
                hint="Leave out what the image does not need in .dockerignore",
            )


def _is_plain(name: str) -> bool:
    return not has_wildcards(name) and "\\" not in name
