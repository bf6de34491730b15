"""`--init`: a process 1 of a few hundred bytes, which reaps, passes signals on and ends as told.

Process 1 of a pid namespace inherits every orphan, and gets no signal that it has no handler for.
A program that was not written for that leaves zombies and does not stop. So the container's init
forks: the child becomes the program, and process 1 becomes the machine code below, which takes 8
kB of memory where a Python would take megabytes. It is given the program's process id in decimal
as its first argument, and every signal blocked:

    name itself `lamella-init`
    for ever:
        wait for a signal (rt_sigtimedwait without a time)
        SIGCHLD: reap (wait4) whatever has ended; if the program is among it, end as it did,
            with its exit code, or 128 and the signal's number
        SIGTTIN, SIGTTOU: nothing; the terminal belongs to the program
        another: send it to the program

The program's failure to start is thereby told as without an init: it happens in the child, before
its exec (126, 127). The file is never on a disk: it is a sealed one in memory, so that the
container cannot write to it (CVE-2019-5736).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
from typing import NoReturn

from engine.errors import FeatureUnavailableError, StartError

NAME = "lamella-init"
_ADDRESS = 0x400000
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_CODE_OFFSET = _HEADER.size + 2 * _PROGRAM_HEADER.size
_LOAD, _STACK = 1, 0x6474E551
_READ_EXECUTE, _READ_WRITE = 5, 6
_LARGEST_PAGE = 0x10000
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 16
_SEALS = 0x0F
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE."""
_F_ADD_SEALS = 1033

# One instruction a line, in the order of the bytes; System V calls: eax, and rdi rsi rdx r10.
_X86_64 = """
48 8b 74 24 10        mov rsi, [rsp + 16]     ; argv[1]
31 db                 xor ebx, ebx            ; the program's process id
ac            digit:  lodsb
2c 30                 sub al, '0'
72 0a                 jb parsed
0f b6 c0              movzx eax, al
6b db 0a              imul ebx, ebx, 10
01 c3                 add ebx, eax
eb f1                 jmp digit
6a 0f         parsed: push 15                 ; prctl(PR_SET_NAME, name)
5f                    pop rdi
48 8d 35 73 00 00 00  lea rsi, [rip + name]
b8 9d 00 00 00        mov eax, 157
0f 05                 syscall
6a ff                 push -1                 ; [rsp + 8]: room for a status
6a ff                 push -1                 ; [rsp]: the set of all signals
48 89 e7      next:   mov rdi, rsp            ; rt_sigtimedwait(set, NULL, NULL, 8)
31 f6                 xor esi, esi
31 d2                 xor edx, edx
6a 08                 push 8
41 5a                 pop r10
b8 80 00 00 00        mov eax, 128
0f 05                 syscall
85 c0                 test eax, eax
7e ea                 jle next                ; EINTR
83 f8 11              cmp eax, 17             ; SIGCHLD
74 13                 je reap
8d 48 eb              lea ecx, [rax - 21]     ; SIGTTIN, SIGTTOU
83 f9 01              cmp ecx, 1
76 dd                 jbe next
89 df                 mov edi, ebx            ; kill(program, signal)
89 c6                 mov esi, eax
6a 3e                 push 62
58                    pop rax
0f 05                 syscall
eb d2                 jmp next
6a ff         reap:   push -1                 ; wait4(-1, status, WNOHANG, NULL)
5f                    pop rdi
48 8d 74 24 08        lea rsi, [rsp + 8]
6a 01                 push 1
5a                    pop rdx
45 31 d2              xor r10d, r10d
6a 3d                 push 61
58                    pop rax
0f 05                 syscall
85 c0                 test eax, eax
7e bb                 jle next                ; none has ended, or none is left
39 d8                 cmp eax, ebx
75 e5                 jne reap
8b 7c 24 08           mov edi, [rsp + 8]
89 f8                 mov eax, edi
c1 ef 08              shr edi, 8              ; exit code
83 e0 7f              and eax, 127            ; signal
74 06                 je leave
8d b8 80 00 00 00     lea edi, [rax + 128]
40 0f b6 ff   leave:  movzx edi, dil          ; exit_group(code)
b8 e7 00 00 00        mov eax, 231
0f 05                 syscall
"""

# The same; calls: x8, and x0 to x3. Words as they lie in memory, little end first.
_AARCH64 = """
e1 0b 40 f9           ldr x1, [sp, #16]       ; argv[1]
13 00 80 52           mov w19, #0             ; the program's process id
44 01 80 52           mov w4, #10
20 14 40 38   digit:  ldrb w0, [x1], #1
00 c0 00 71           subs w0, w0, #'0'
63 00 00 54           b.lo parsed
73 02 04 1b           madd w19, w19, w4, w0
fc ff ff 17           b digit
e0 01 80 d2   parsed: mov x0, #15             ; prctl(PR_SET_NAME, name)
41 05 00 10           adr x1, name
e8 14 80 d2           mov x8, #167
01 00 00 d4           svc #0
14 00 80 92           mov x20, #-1
f4 53 bf a9           stp x20, x20, [sp, #-16]!
e0 03 00 91   next:   mov x0, sp              ; rt_sigtimedwait(set, NULL, NULL, 8)
01 00 80 d2           mov x1, #0
02 00 80 d2           mov x2, #0
03 01 80 d2           mov x3, #8
28 11 80 d2           mov x8, #137
01 00 00 d4           svc #0
1f 00 00 71           cmp w0, #0
2d ff ff 54           b.le next               ; EINTR
1f 44 00 71           cmp w0, #17             ; SIGCHLD
20 01 00 54           b.eq reap
01 54 00 51           sub w1, w0, #21         ; SIGTTIN, SIGTTOU
3f 04 00 71           cmp w1, #1
89 fe ff 54           b.ls next
e1 03 00 2a           mov w1, w0              ; kill(program, signal)
e0 03 13 2a           mov w0, w19
28 10 80 d2           mov x8, #129
01 00 00 d4           svc #0
ef ff ff 17           b next
00 00 80 92   reap:   mov x0, #-1             ; wait4(-1, status, WNOHANG, NULL)
e1 23 00 91           add x1, sp, #8
22 00 80 d2           mov x2, #1
03 00 80 d2           mov x3, #0
88 20 80 d2           mov x8, #260
01 00 00 d4           svc #0
1f 00 00 71           cmp w0, #0
ed fc ff 54           b.le next               ; none has ended, or none is left
1f 00 13 6b           cmp w0, w19
e1 fe ff 54           b.ne reap
e0 0b 40 b9           ldr w0, [sp, #8]
01 18 00 72           ands w1, w0, #127       ; signal
60 00 00 54           b.eq leave
20 00 02 11           add w0, w1, #128
02 00 00 14           b end
00 7c 08 53   leave:  lsr w0, w0, #8          ; exit code
00 1c 00 12   end:    and w0, w0, #255        ; exit_group(code)
c8 0b 80 d2           mov x8, #94
01 00 00 d4           svc #0
"""

_MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}


def reaper_program(machine: str) -> bytes:
    """The whole ELF file for a machine as uname names it.

    Raises:
        FeatureUnavailableError: There is no code for that machine.
    """
    if machine not in _MACHINES:
        raise FeatureUnavailableError(
            "--init",
            f"there is no init for {machine}",
            remedy="Use an image that brings one, such as tini, as its entrypoint",
        )
    number, listing = _MACHINES[machine]
    code = assemble(listing) + NAME.encode() + b"\0"
    size = _CODE_OFFSET + len(code)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    executable, version = 2, 1
    header = _HEADER.pack(
        identity,
        executable,
        number,
        version,
        _ADDRESS + _CODE_OFFSET,
        _HEADER.size,
        0,
        0,
        _HEADER.size,
        _PROGRAM_HEADER.size,
        2,
        0,
        0,
        0,
    )
    load = _PROGRAM_HEADER.pack(
        _LOAD, _READ_EXECUTE, 0, _ADDRESS, _ADDRESS, size, size, _LARGEST_PAGE
    )
    stack = _PROGRAM_HEADER.pack(_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16)
    return header + load + stack + code


def assemble(listing: str) -> bytes:
    """Take the bytes, which stand before two blanks, from each line of a listing."""
    return b"".join(bytes.fromhex(line.partition("  ")[0]) for line in listing.splitlines() if line)


def open_reaper() -> int:
    """The program in a sealed file in memory; close-on-exec.

    Raises:
        FeatureUnavailableError: This machine or kernel cannot have it.
    """
    program = reaper_program(os.uname().machine)
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        try:
            descriptor = os.memfd_create(NAME, flags | _MFD_EXEC)
        except OSError:
            # Before Linux 6.3 nobody asks for the right to execute.
            descriptor = os.memfd_create(NAME, flags)
    except OSError as error:
        raise FeatureUnavailableError(
            "--init",
            f"no program can be made in memory: {error.strerror}",
            remedy="sysctl vm.memfd_noexec must not be 2",
        ) from None
    os.write(descriptor, program)
    os.fchmod(descriptor, 0o555)
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)
    return descriptor


def leave_reaper_behind(reaper: int, *, has_terminal: bool) -> None:
    """Fork: return in the child, which becomes the program; this process becomes the init.

    Call it last before the exec, with the user and privileges of the program: what the child can
    be signalled with is what its own user may send.

    Args:
        reaper: What `open_reaper` returned, from before the root was left behind.
        has_terminal: Descriptor 0 is the session's terminal; the program gets its foreground.

    Raises:
        StartError: No process can be made.
    """
    # The program must not end unnoticed between the fork and the init's first wait.
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        process_id = os.fork()
    except OSError as error:
        raise StartError(
            f"cannot make a process for the program: {error.strerror}",
            exit_code=125,
            step="init",
            hint="--init needs one process more: check --pids-limit",
        ) from None
    if process_id:
        _become_reaper(reaper, process_id)
    os.close(reaper)
    os.setpgid(0, 0)
    if has_terminal:
        # The terminal may be gone by now.
        with contextlib.suppress(OSError):
            os.tcsetpgrp(0, os.getpid())


def _become_reaper(reaper: int, process_id: int) -> NoReturn:
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1, 2):
        # Who reads the program's output is told of its end by the program's own descriptors.
        os.dup2(null, descriptor)
    os.execve(reaper, (NAME, str(process_id)), {})
