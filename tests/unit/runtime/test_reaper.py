import ctypes
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import FeatureUnavailableError
from engine.runtime import reaper
from engine.runtime.reaper import NAME, assemble, leave_reaper_behind, open_reaper, reaper_program

MACHINES = ("x86_64", "aarch64")
_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def runs_here():
    if os.uname().machine not in MACHINES:
        pytest.skip(f"there is no init for {os.uname().machine}")


class Init:
    """A process that is an init for one program; orphans of the program come to it."""

    def __init__(self, program):
        descriptor = open_reaper()
        self.reader, writer = os.pipe()
        self.process_id = os.fork()
        if self.process_id == 0:
            try:
                # In a pid namespace process 1 gets the orphans without asking.
                ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
                leave_reaper_behind(descriptor, has_terminal=False)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                program(writer)
            finally:
                os._exit(98)
        os.close(descriptor)
        os.close(writer)

    def read(self, count):
        data = b""
        while len(data) < count and (part := os.read(self.reader, count - len(data))):
            data += part
        return data

    def wait(self):
        os.close(self.reader)
        return os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])


def end_with_every_exit_code():
    for exit_code in range(256):
        assert Init(lambda _pipe, code=exit_code: os._exit(code)).wait() == exit_code


def test_it_ends_with_every_exit_code_that_a_program_can_have():
    # Forked of a small process: this one takes long to copy.
    code = f"from {__name__} import end_with_every_exit_code as check; check()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 15, 31, 34, 64])
def test_it_ends_with_128_and_the_signal_that_ended_the_program(number):
    def end(_pipe):
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)

    assert Init(end).wait() == 128 + number


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15, 18, 28, 34, 64])
def test_it_passes_signals_on(number):
    def tell(pipe):
        # Blocked and waited for: one that came between a handler and pause(2) would be missed.
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        os.write(pipe, b"r")
        while True:
            os.write(pipe, bytes([signal.sigwait({number})]))

    init = Init(tell)
    assert init.read(1) == b"r"
    os.kill(init.process_id, number)
    assert init.read(1) == bytes([number])
    os.kill(init.process_id, signal.SIGSTOP)
    os.kill(init.process_id, signal.SIGCONT)
    children = f"/proc/{init.process_id}/task/{init.process_id}/children"
    (program,) = Path(children).read_text().split()
    os.kill(int(program), signal.SIGKILL)
    assert init.wait() == 137


def test_it_reaps_orphans_and_lives_on():
    def make_orphans(pipe):
        for _ in range(50):
            if os.fork() == 0:
                if os.fork() == 0:
                    signal.pause()
                    os._exit(0)
                os._exit(0)
            os.wait()
        os.write(pipe, b"r")
        signal.pause()

    init = Init(make_orphans)
    assert init.read(1) == b"r"
    children = f"/proc/{init.process_id}/task/{init.process_id}/children"
    program, *orphans = map(int, Path(children).read_text().split())
    pidfds = [os.pidfd_open(orphan) for orphan in orphans]
    assert len(orphans) == 50
    for orphan in orphans:
        os.kill(orphan, signal.SIGTERM)
    for pidfd in pidfds:
        # Gone altogether, not a zombie: a signal finds nobody once it was reaped.
        while True:
            try:
                signal.pidfd_send_signal(pidfd, 0)
            except ProcessLookupError:
                break
        os.close(pidfd)
    assert Path(children).read_text().split() == [str(program)]
    os.kill(init.process_id, signal.SIGTERM)
    assert init.wait() == 143


def test_it_says_its_name_and_takes_next_to_no_memory():
    def tell(pipe):
        os.write(pipe, b"r")
        signal.pause()

    init = Init(tell)
    assert init.read(1) == b"r"
    # The program runs ahead of the init, which is there when its name is.
    while Path(f"/proc/{init.process_id}/comm").read_text() != f"{NAME}\n":
        os.sched_yield()
    assert Path(f"/proc/{init.process_id}/cmdline").read_text().startswith(f"{NAME}\0")
    rollup = Path(f"/proc/{init.process_id}/smaps_rollup").read_text()
    (resident,) = (int(line.split()[1]) for line in rollup.splitlines() if "Rss" in line)
    assert resident <= 32
    os.kill(init.process_id, signal.SIGTERM)
    assert init.wait() == 143


def test_the_file_in_memory_cannot_be_written():
    descriptor = open_reaper()
    try:
        with pytest.raises(PermissionError):
            os.write(descriptor, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_the_file_has_the_headers_of_its_machine(machine, number):
    program = reaper_program(machine)
    assert program[:4] == b"\x7fELF"
    assert struct.unpack_from("<HH", program, 16) == (2, number)
    (entry,) = struct.unpack_from("<Q", program, 24)
    kind, flags, offset, address = struct.unpack_from("<IIQQ", program, 64)
    assert (kind, flags, offset) == (1, 5, 0)
    assert address <= entry < address + len(program)
    assert program.endswith(f"{NAME}\0".encode())


@pytest.mark.parametrize("machine", MACHINES)
def test_every_branch_of_the_listing_goes_where_its_label_is(machine):
    listing = {"x86_64": reaper._X86_64, "aarch64": reaper._AARCH64}[machine]
    labels, at = {}, 0
    branches = []
    for line in listing.splitlines():
        if not line:
            continue
        code = bytes.fromhex(line.partition("  ")[0])
        words = line[22:].partition(";")[0].split()
        label = line[14:22].strip()
        if label:
            labels[label.rstrip(":")] = at
        branches.append((at, code, words))
        at += len(code)
    labels["name"] = at
    checked = 0
    for start, code, words in branches:
        target = _x86_target(start, code) if machine == "x86_64" else _arm_target(start, code)
        if target is not None:
            name = "name" if "name" in words[-1] else words[-1]
            assert target == labels[name], words
            checked += 1
    assert checked == (10 if machine == "x86_64" else 11)


def _x86_target(start, code):
    if code[0] in {0x72, 0x74, 0x75, 0x76, 0x7E, 0xEB} and len(code) == 2:
        return start + 2 + struct.unpack("b", code[1:])[0]
    if code[:3] == b"\x48\x8d\x35":
        return start + 7 + struct.unpack("<i", code[3:])[0]
    return None


def _arm_target(start, code):
    (word,) = struct.unpack("<I", code)
    if word >> 24 == 0x54:
        return start + _signed(word >> 5 & 0x7FFFF, 19) * 4
    if word >> 26 == 0x05:
        return start + _signed(word & 0x3FFFFFF, 26) * 4
    if word >> 24 & 0x9F == 0x10:
        return start + _signed(word >> 5 & 0x7FFFF, 19) * 4
    return None


def _signed(value, bits):
    return value - (1 << bits) if value >> (bits - 1) else value


def test_the_disassembler_reads_the_listing_as_it_is_written(tmp_path):
    file = tmp_path / "code"
    file.write_bytes(assemble(reaper._X86_64))
    try:
        text = subprocess.run(
            ("objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", file),
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except FileNotFoundError:
        pytest.skip("no objdump (binutils)")
    read = [line.split("\t")[2].split()[0] for line in text.splitlines() if line.count("\t") == 2]
    written = [line[22:].split()[0] for line in reaper._X86_64.splitlines() if line]
    assert [name.removesuffix("s") if name == "lods" else name for name in read] == [
        "lod" if name == "lodsb" else name for name in written
    ]


def test_a_machine_without_code_is_refused_with_a_remedy():
    with pytest.raises(FeatureUnavailableError) as failure:
        reaper_program("riscv64")
    assert "riscv64" in failure.value.message
    assert failure.value.hint
