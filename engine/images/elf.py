"""Which libraries a program needs, read from its ELF file; nothing is executed.

The search is that of ld.so(8): RPATH, LD_LIBRARY_PATH left out, RUNPATH, the loader's cache, the
default directories. glibc's cache gives way to its configuration, which says the same and is text.
"""

from __future__ import annotations

import glob
import os
import struct

from engine.late_dataclasses import dataclass

_LARGEST_TABLE_BYTES = 16 << 20
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29
_DEFAULT_DIRECTORIES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")


class ElfError(ValueError):
    """A file is not a 64-bit little-endian ELF file, or it is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfFile:
    """What the dynamic loader reads of a file.

    Attributes:
        machine: e_machine: 62 is x86_64, 183 is aarch64.
        interpreter: The loader; empty for a static program and for most libraries.
        needed: Names of libraries, in order.
        search_path: RUNPATH, or RPATH where there is none, with $ORIGIN still in it.
    """

    machine: int
    interpreter: str
    needed: tuple[str, ...]
    search_path: tuple[str, ...]


def read_elf(path: str) -> ElfFile:
    """Read the dynamic section of a program or library; blocking.

    Raises:
        ElfError: It is no such file.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size

        def part(offset: int, length: int) -> bytes:
            if offset < 0 or length > _LARGEST_TABLE_BYTES or offset + length > size:
                raise ElfError(f"{path}: a table lies outside the file")
            return os.pread(file.fileno(), length, offset)

        if size < _HEADER.size:
            raise ElfError(f"{path}: too short")
        header = _HEADER.unpack(part(0, _HEADER.size))
        # 64 bits, little-endian: both our architectures.
        if header[0][:6] != b"\x7fELF\x02\x01":
            raise ElfError(f"{path}: not a 64-bit ELF file")
        offset, entry_size, count = header[5], header[9], header[10]
        if entry_size != _PROGRAM_HEADER.size:
            raise ElfError(f"{path}: unknown program headers")
        table = part(offset, entry_size * count)
        segments = list(_PROGRAM_HEADER.iter_unpack(table))
        interpreter = b""
        dynamic: list[tuple[int, int]] = []
        for kind, _flags, where, _address, _physical, length, _memory, _align in segments:
            if kind == _PT_INTERP:
                interpreter = part(where, length).partition(b"\0")[0]
            elif kind == _PT_DYNAMIC:
                content = part(where, length - length % _DYNAMIC.size)
                dynamic = [(tag, value) for tag, value in _DYNAMIC.iter_unpack(content)]
        values = dict(dynamic)
        strings = b""
        if _DT_STRTAB in values:
            start = _file_offset(segments, values[_DT_STRTAB], path)
            strings = part(start, values.get(_DT_STRSZ, 0))
        paths = values.get(_DT_RUNPATH, values.get(_DT_RPATH))
        return ElfFile(
            machine=header[2],
            interpreter=os.fsdecode(interpreter),
            needed=tuple(_text(strings, value) for tag, value in dynamic if tag == _DT_NEEDED),
            search_path=tuple(_text(strings, paths).split(":")) if paths is not None else (),
        )


def _file_offset(segments: list[tuple[int, ...]], address: int, path: str) -> int:
    for kind, _flags, where, start, _physical, length, _memory, _align in segments:
        if kind == _PT_LOAD and start <= address < start + length:
            return where + address - start
    raise ElfError(f"{path}: its strings are in no segment")


def _text(strings: bytes, at: int) -> str:
    end = strings.find(b"\0", at)
    if not 0 <= at <= end:
        raise ElfError("a name lies outside the string table")
    return os.fsdecode(strings[at:end])


def library_directories(configuration: str = "/etc/ld.so.conf") -> tuple[str, ...]:
    """Where libraries are looked for on this host: the loader's configuration, then defaults."""
    found = [*_configured(configuration, set()), *_DEFAULT_DIRECTORIES]
    found += glob.glob("/lib/*-linux-gnu*") + glob.glob("/usr/lib/*-linux-gnu*")
    for musl in glob.glob("/etc/ld-musl-*.path"):
        found += _lines(musl)
    return tuple(dict.fromkeys(path for path in found if os.path.isdir(path)))


def _configured(path: str, seen: set[str]) -> list[str]:
    found: list[str] = []
    if path in seen:
        return found
    seen.add(path)
    for line in _lines(path):
        if line.startswith("include"):
            pattern = line.removeprefix("include").strip()
            for included in sorted(glob.glob(os.path.join(os.path.dirname(path), pattern))):
                found += _configured(included, seen)
        else:
            found.append(line.split("=")[0].strip())
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    stripped = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line]


def find_libraries(program: str, directories: tuple[str, ...]) -> tuple[str, ...]:
    """Every file that running a program loads, the loader first, as paths of the host's.

    Links are not resolved: a library is named as the loader opens it.

    Raises:
        ElfError: The program is not ELF, or a library that it needs is not found.
        OSError: A file cannot be read.
    """
    main = read_elf(program)
    found: dict[str, str] = {}
    if main.interpreter:
        found[os.path.basename(main.interpreter)] = main.interpreter
    waiting = [(program, main)]
    while waiting:
        path, file = waiting.pop(0)
        origin = os.path.dirname(os.path.realpath(path))
        expanded = (
            entry.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)
            for entry in file.search_path
        )
        # Without `..`, as the path becomes one of the image's; what is relative to wherever we
        # stand is none of the program's.
        own = tuple(os.path.normpath(entry) for entry in expanded if os.path.isabs(entry))
        for name in file.needed:
            if name not in found:
                library, content = _find(name, (*own, *directories), main.machine, path)
                found[name] = library
                waiting.append((library, content))
    return tuple(found.values())


def _find(
    name: str, directories: tuple[str, ...], machine: int, needed_by: str
) -> tuple[str, ElfFile]:
    candidates = [name] if "/" in name else [f"{path}/{name}" for path in directories]
    for candidate in candidates:
        try:
            content = read_elf(candidate)
        except (ElfError, OSError):
            continue  # missing, or of another word size
        if content.machine == machine:
            return candidate, content
    raise ElfError(f"{needed_by} needs {name}, which is not in {', '.join(directories)}")
