"""Interpreters for the two kinds of BPF that the engine writes, after the kernel's documents."""

from __future__ import annotations

import struct
from functools import lru_cache


def run_classic(
    program: bytes, *, number: int, architecture: int, arguments: tuple[int, ...] = ()
) -> int:
    """What a seccomp filter returns for a call; every jump and load is checked."""
    words = (arguments + (0,) * 6)[:6]
    data = struct.pack("<iIQ6Q", _signed(number), architecture, 0, *words)
    instructions = _decode("<HBBI", program)
    accumulator = 0
    at = 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        if code == 0x20:
            assert operand % 4 == 0
            accumulator = struct.unpack_from("<I", data, operand)[0]
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x05:
            at += operand
        elif code == 0x15:
            at += if_true if accumulator == operand else if_false
        elif code == 0x25:
            at += if_true if accumulator > operand else if_false
        elif code == 0x35:
            at += if_true if accumulator >= operand else if_false
        elif code == 0x45:
            at += if_true if accumulator & operand else if_false
        elif code == 0x06:
            return operand
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


def run_device_program(program: bytes, *, kind: int, access: int, major: int, minor: int) -> int:
    """What a cgroup device program returns for one use of a device."""
    context = struct.pack("<3I", access << 16 | kind, major, minor)
    registers: dict[int, int] = {1: 0}
    instructions = _decode("<BBhi", program)
    at = 0
    while True:
        code, pair, offset, operand = instructions[at]
        destination, source = pair & 15, pair >> 4
        at += 1
        if code == 0x61:
            assert source == 1
            registers[destination] = struct.unpack_from("<I", context, offset)[0]
        elif code == 0xBC:
            registers[destination] = registers[source] & 0xFFFFFFFF
        elif code == 0xB7:
            registers[destination] = operand
        elif code == 0x54:
            registers[destination] &= operand & 0xFFFFFFFF
        elif code == 0x74:
            registers[destination] >>= operand
        elif code == 0x55:
            if registers[destination] != operand:
                at += offset
        elif code == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


@lru_cache(maxsize=16)
def _decode(layout: str, program: bytes) -> tuple[tuple[int, int, int, int], ...]:
    return tuple(struct.iter_unpack(layout, program))


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
