"""Which system calls a container may make.

The allowed set is Docker's default profile (moby/profiles, seccomp/default.json). What differs:

- Arguments are compared in the width that the kernel reads them in. Docker's comparison of all
  64 bits lets `socket(38 + 2**32)` through, which the kernel takes for 38.
- A number without a call behind it, or newer than everything that the profile names, is answered
  with ENOSYS, so that libraries fall back; what is known and not allowed gets EPERM.
- x32 calls get ENOSYS.

On i386 and arm, `socketcall` and `ipc` hide their arguments behind a pointer that no filter can
follow; like Docker we allow them, since 32-bit C libraries cannot open a socket otherwise.
"""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.linux.capabilities import capability_number
from engine.linux.syscall_tables import syscall_numbers

ALLOW = 0x7FFF0000
"""SECCOMP_RET_ALLOW."""
_ERRNO = 0x00050000
REFUSE = _ERRNO | 1
"""SECCOMP_RET_ERRNO with EPERM."""
MISSING = _ERRNO | 38
"""SECCOMP_RET_ERRNO with ENOSYS."""
KILL = 0x80000000
"""SECCOMP_RET_KILL_PROCESS, for a call table that the kernel should not have."""

CALL_TABLES: dict[str, tuple[tuple[str, int], ...]] = {
    "x86_64": (("x86_64", 0xC000003E), ("i386", 0x40000003)),
    "aarch64": (("aarch64", 0xC00000B7), ("arm", 0x40000028)),
}
"""By architecture: the call tables of its kernel, native first, each with its AUDIT_ARCH value."""

_CLONE_NAMESPACES = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}


@dataclass(frozen=True, slots=True)
class ArgumentCondition:
    """Allowed only if the low 32 bits of an argument, masked, are in one of the ranges.

    Attributes:
        argument: Position, from 0.
        mask: Bits that count.
        ranges: Ascending, apart, both ends included.
    """

    argument: int
    mask: int
    ranges: tuple[tuple[int, int], ...]

    def allows(self, value: int) -> bool:
        """Whether a call with this argument may be made."""
        word = value & 0xFFFFFFFF & self.mask
        return any(first <= word <= last for first, last in self.ranges)


Decision = int | ArgumentCondition
"""What a filter answers: a SECCOMP_RET value, or one that depends on an argument."""

_ALLOWED = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl
fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64
fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid
geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid
getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list
getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy
io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link
linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat
lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod
mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv
msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max
sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl
semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid
setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority
setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit
set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr
setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn
socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink
symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
vmsplice wait4 waitid waitpid write writev
"""

_ALLOWED_ON = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": (
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"
    ),
}

_ALLOWED_WITH = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie"
        " lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount"
        " open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog"
        " umount umount2 unshare"
    ),
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module init_module finit_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "iopl ioperm",
    "SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}

_CONDITIONS: dict[str, Decision] = {
    # Every family up to AF_MCTP but AF_ALG (38) and AF_VSOCK (40).
    "socket": ArgumentCondition(0, 0xFFFFFFFF, ((0, 37), (39, 39), (41, 45))),
    # PER_LINUX and PER_LINUX32, each also with UNAME26, and the query. Not READ_IMPLIES_EXEC,
    # not ADDR_NO_RANDOMIZE.
    "personality": ArgumentCondition(
        0,
        0xFFFFFFFF,
        ((0, 0), (8, 8), (0x20000, 0x20000), (0x20008, 0x20008), (0xFFFFFFFF, 0xFFFFFFFF)),
    ),
    "clone": ArgumentCondition(0, _CLONE_NAMESPACES, ((0, 0),)),
    # Its flags are behind a pointer; the C library then uses clone.
    "clone3": MISSING,
}


def decide(table: str, capabilities: frozenset[int], *, architecture: str) -> dict[int, Decision]:
    """What the filter answers to each number of a call table; MISSING to all that are not there.

    Args:
        table: One of those in `CALL_TABLES` for `architecture`.
        capabilities: Numbers of those that the container has; some calls come with one.
        architecture: `x86_64` or `aarch64`.
    """
    numbers = syscall_numbers(table)
    decisions: dict[str, Decision] = dict(_CONDITIONS)
    named = set(_CONDITIONS)
    for capability, names in _ALLOWED_WITH.items():
        named.update(names.split())
        if capability_number(capability) in capabilities:
            decisions.update(dict.fromkeys(names.split(), ALLOW))
    for names in (_ALLOWED, _ALLOWED_ON[architecture]):
        named.update(names.split())
        decisions.update(dict.fromkeys(names.split(), ALLOW))
    # In arm's private range nothing is newer; the ordinary calls end far below it.
    newest = max(number for name, number in numbers.items() if name in named and number < 0xF0000)
    return {
        number: decisions.get(name, REFUSE)
        for name, number in numbers.items()
        if number <= newest or name in named
    }
