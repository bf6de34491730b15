import os
import shutil
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.images.elf import ElfError, find_libraries, library_directories, read_elf
from engine.images.starter import starter_image

LOAD, DYNAMIC, INTERPRETER = 1, 2, 3
NEEDED, STRING_TABLE, STRING_BYTES, RUN_PATH = 1, 5, 10, 29
BASE = 0x40_0000


def elf(*, dynamic=(), strings=b"\0libx.so.1\0$ORIGIN/../lib\0", interpreter=b"", machine=62):
    """A file with one loaded segment of everything, its dynamic section and its interpreter."""
    strings_at = 64 + 3 * 56
    dynamic_at = strings_at + len(strings)
    entries = [(STRING_TABLE, BASE + strings_at), (STRING_BYTES, len(strings)), *dynamic]
    table = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    interpreter_at = dynamic_at + len(table)
    size = interpreter_at + len(interpreter)

    def program(kind, at, length):
        return struct.pack("<IIQQQQQQ", kind, 4, at, BASE + at, BASE + at, length, length, 1)

    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0
    )
    return b"".join(
        (
            header,
            program(LOAD, 0, size),
            program(DYNAMIC, dynamic_at, len(table)),
            program(INTERPRETER, interpreter_at, len(interpreter)),
            strings,
            table,
            interpreter,
        )
    )


def patched(content, at, form, *values):
    changed = bytearray(content)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


GOOD = elf(dynamic=((NEEDED, 1), (RUN_PATH, 11)), interpreter=b"/lib/ld.so\0")
HOSTILE = {
    "empty": b"",
    "a script": b"#!/bin/sh\n" + bytes(100),
    "only a header": GOOD[:64],
    "of 32 bits": patched(GOOD, 4, "B", 1),
    "big-endian": patched(GOOD, 5, "B", 2),
    "headers outside": patched(GOOD, 32, "<Q", 1 << 40),
    "headers at the end of the address space": patched(GOOD, 32, "<Q", (1 << 64) - 8),
    "headers of another size": patched(GOOD, 54, "<H", 1),
    "more headers than file": patched(GOOD, 56, "<H", 0xFFFF),
    "a dynamic section outside": patched(GOOD, 64 + 56 + 8, "<Q", 1 << 60),
    "a dynamic section without end": patched(GOOD, 64 + 56 + 32, "<Q", (1 << 64) - 1),
    "an interpreter outside": patched(GOOD, 64 + 112 + 8, "<Q", 1 << 33),
    "a name outside its strings": elf(dynamic=((NEEDED, 1 << 50),)),
    "strings in no segment": elf(dynamic=((STRING_TABLE, 8), (NEEDED, 1))),
    "strings without end": elf(dynamic=((STRING_BYTES, 1 << 40), (NEEDED, 1))),
    "strings of no size": elf(dynamic=((STRING_BYTES, 0), (NEEDED, 1))),
    "a name without end": elf(dynamic=((NEEDED, 1),), strings=b"\0libx.so.1"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "program").write_bytes(content)
    with pytest.raises(ElfError):
        read_elf(str(tmp_path / "program"))


def test_what_the_loader_reads_is_found(tmp_path):
    (tmp_path / "program").write_bytes(GOOD)
    found = read_elf(str(tmp_path / "program"))
    assert found.interpreter == "/lib/ld.so"
    assert found.needed == ("libx.so.1",)
    assert found.search_path == ("$ORIGIN/../lib",)


def test_an_interpreter_ends_at_its_first_zero(tmp_path):
    (tmp_path / "program").write_bytes(elf(interpreter=b"/lib/ld.so\0/etc/shadow\0"))
    assert read_elf(str(tmp_path / "program")).interpreter == "/lib/ld.so"


def test_strings_whose_size_is_not_told_hold_no_names(tmp_path):
    content = GOOD.replace(struct.pack("<q", STRING_BYTES), struct.pack("<q", 99), 1)
    (tmp_path / "program").write_bytes(content)
    with pytest.raises(ElfError):
        read_elf(str(tmp_path / "program"))


def test_libraries_that_need_each_other_are_found_once(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "bin").mkdir()
    for name, needs in (("one", "two"), ("two", "one")):
        strings = f"\0{needs}\0$ORIGIN\0".encode()
        content = elf(dynamic=((NEEDED, 1), (RUN_PATH, 5)), strings=strings)
        (tmp_path / "lib" / name).write_bytes(content)
    strings = b"\0one\0$ORIGIN/../lib\0"
    (tmp_path / "bin/program").write_bytes(
        elf(dynamic=((NEEDED, 1), (RUN_PATH, 5)), strings=strings)
    )
    assert find_libraries(str(tmp_path / "bin/program"), ()) == (
        str(tmp_path / "lib/one"),
        str(tmp_path / "lib/two"),
    )


def test_a_library_of_another_machine_is_passed_over_and_its_lack_is_said(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(elf(dynamic=((NEEDED, 1),)))
    (tmp_path / "libx.so.1").write_bytes(elf(machine=183))
    with pytest.raises(ElfError, match=r"needs libx\.so\.1"):
        find_libraries(str(program), (str(tmp_path),))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_file_with_any_bytes_changed_is_read_or_refused(tmp_path, data):
    content = bytearray(GOOD)
    places = st.integers(0, len(content) - 1)
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        content[at] = value
    path = tmp_path / "program"
    path.write_bytes(content[: data.draw(places) + 1] if data.draw(st.booleans()) else content)
    try:
        found = read_elf(str(path))
    except ElfError:
        return
    assert "\0" not in found.interpreter


def test_libraries_are_those_that_the_loader_would_take():
    if shutil.which("ldd") is None:
        pytest.skip("needs ldd to compare with")
    directories = library_directories()
    programs = [
        entry.source
        for layer in starter_image().layers
        for entry in layer.entries
        if entry.source and entry.path.startswith("bin/")
    ]
    assert len(programs) > 5
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        paths = {
            word for line in listed.stdout.splitlines() for word in line.split() if "/" in word
        }
        found = find_libraries(program, directories)
        assert {os.path.realpath(path) for path in found} == {
            os.path.realpath(path) for path in paths if not path.endswith(":")
        }, program
