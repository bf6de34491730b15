"""What the host gives: found out by trying, once a boot, and said with a remedy where it lacks.

What cgroups give is told by `engine.cgroups`, which ids can be mapped by `engine.runtime`;
`engine.api` puts it together.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.errors import FeatureUnavailableError, SyscallError
from engine.late_dataclasses import dataclass
from engine.linux import overlay_trial
from engine.linux.process import is_booted_with_systemd
from engine.types import HostFeature

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST_KERNEL = (5, 12)
"""mount_setattr; the youngest call that nothing stands in for."""
_TRIAL_SECONDS = 10.0
_LINGER_DIRECTORY = Path("/var/lib/systemd/linger")
"""A file for each user whose processes stay when the last session ends (loginctl(1))."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CACHE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What does not change before the next boot.

    Attributes:
        key: Of what boot, user and store this is true.
        snapshotter: `overlay` or `copy`.
        features: Without those of cgroups and of mapped ids.
    """

    key: str
    snapshotter: str
    features: tuple[HostFeature, ...]


def architecture() -> str:
    """The host's architecture as images name it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def require_proc() -> None:
    """Refuse to go on without /proc.

    Raises:
        FeatureUnavailableError: It is not mounted, or hides this very process.
    """
    if not os.path.exists("/proc/self/status"):
        raise FeatureUnavailableError(
            "the container engine",
            "/proc is not mounted",
            remedy="Mount it: mount -t proc proc /proc",
        )


def probe_host(*, run: Path, scratch: Path) -> HostFacts:
    """Find out what the host gives; blocking, some milliseconds, once a boot tens of them.

    Args:
        run: Where the answer is kept (`host.json`), for this boot, user and store.
        scratch: An existing directory on the store's file system; what is tried there is
            removed again.
    """
    key = _cache_key(scratch)
    cache = run / "host.json"
    with contextlib.suppress(OSError, msgspec.DecodeError):
        known = msgspec.json.decode(cache.read_bytes(), type=HostFacts)
        if known.key == key:
            return known
    facts = _probe_root(key, scratch) if os.geteuid() == 0 else _probe_rootless(key, scratch)
    _write_cache(cache, facts)
    return facts


def _cache_key(scratch: Path) -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # A remedy that was carried out must show at the next start, not at the next boot.
        settings = [
            _read(f"/proc/sys/{name}")
            for name in (
                "kernel/unprivileged_userns_clone",
                "kernel/apparmor_restrict_unprivileged_userns",
                "user/max_user_namespaces",
            )
        ]
        parts = (_CACHE_VERSION, boot, os.geteuid(), scratch, *settings)
        return " ".join(map(str, parts))
    return os.urandom(8).hex()


def _write_cache(cache: Path, facts: HostFacts) -> None:
    temporary = cache.with_name(f".{cache.name}.{os.getpid()}.tmp")
    # Without it the next start asks again, that is all.
    with contextlib.suppress(OSError):
        temporary.write_bytes(msgspec.json.encode(facts))
        temporary.replace(cache)


def _probe_root(key: str, scratch: Path) -> HostFacts:
    problem = ""
    with _trial_directory(scratch) as directory:
        try:
            os.close(overlay_trial.try_overlay(str(directory), uses_user_xattrs=False))
        except (SyscallError, OSError) as error:
            problem = str(error)
    features = (
        _kernel_feature(),
        HostFeature(name="user namespace", is_available=True, detail="not needed by root"),
        _overlay_feature(problem, store=scratch),
        _seccomp_feature(),
    )
    return HostFacts(
        key=key,
        snapshotter="copy" if problem else "overlay",
        features=features,
    )


def _probe_rootless(key: str, scratch: Path) -> HostFacts:
    with _trial_directory(scratch) as directory:
        namespace_problem, overlay_problem = _run_trial(directory)
    overlay = (
        HostFeature(
            name="overlay",
            is_available=False,
            detail="needs a user namespace",
            remedy="See the remedy of `user namespace`",
        )
        if namespace_problem
        else _overlay_feature(overlay_problem, store=scratch)
    )
    features = (
        _kernel_feature(),
        _user_namespace_feature(namespace_problem),
        overlay,
        _seccomp_feature(),
    )
    return HostFacts(
        key=key,
        snapshotter="overlay" if overlay.is_available else "copy",
        features=features,
    )


@contextlib.contextmanager
def _trial_directory(scratch: Path) -> Iterator[Path]:
    import shutil  # once a boot

    for old in scratch.glob(".trial-*"):
        # Of somebody who was killed, unless it is of this minute.
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > 60:
                shutil.rmtree(old, ignore_errors=True)
    directory = scratch / f".trial-{os.urandom(4).hex()}"
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        # Overlay leaves work/work without permissions; it is ours all the same.
        with contextlib.suppress(OSError):
            (directory / "work" / "work").chmod(0o700)
        shutil.rmtree(directory, ignore_errors=True)


def _run_trial(directory: Path) -> tuple[str, str]:
    """Problems with user namespace and overlay; empty where there is none."""
    package = str(Path(__file__).resolve().parent.parent)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from engine.linux.overlay_trial import main; main(sys.argv[2:])"
    )
    try:
        ended = subprocess.run(
            (sys.executable, "-I", "-S", "-c", program, package, str(directory)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRIAL_SECONDS,
            check=False,
            cwd="/",
        )
        answer = json.loads(ended.stdout)
        return str(answer["user_namespace"]), str(answer["overlay"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        problem = f"the trial did not end well: {error}"
        return problem, problem


def _kernel_feature() -> HostFeature:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    is_new_enough = numbers >= _OLDEST_KERNEL
    return HostFeature(
        name="kernel",
        is_available=is_new_enough,
        detail=release if is_new_enough else f"Linux {release} is older than 5.12",
        remedy="" if is_new_enough else "Update the kernel: apt full-upgrade, then reboot",
    )


def _overlay_feature(problem: str, *, store: Path) -> HostFeature:
    if not problem:
        return HostFeature(name="overlay", is_available=True, detail="the kernel's overlayfs")
    return HostFeature(
        name="overlay",
        is_available=False,
        detail=f"layers are copied for each container: {problem}",
        remedy=(
            "Load the module (modprobe overlay), or keep the store on ext4, xfs or btrfs with "
            f"--root; now it is {store}"
        ),
    )


def _seccomp_feature() -> HostFeature:
    has_filters = os.path.exists("/proc/sys/kernel/seccomp/actions_avail")
    return HostFeature(
        name="seccomp",
        is_available=has_filters,
        detail="filters system calls" if has_filters else "the kernel has no seccomp filters",
        remedy="" if has_filters else "Use a kernel with CONFIG_SECCOMP_FILTER",
    )


def _user_namespace_feature(problem: str) -> HostFeature:
    if not problem:
        return HostFeature(name="user namespace", is_available=True, detail="made without root")
    return HostFeature(
        name="user namespace",
        is_available=False,
        detail=problem,
        remedy=user_namespace_remedy(),
    )


def user_namespace_remedy() -> str:
    """What makes an ordinary user's user namespaces possible, by the switch that is off."""
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        remedy = "sysctl -w kernel.unprivileged_userns_clone=1"
    elif _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        remedy = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    elif _read("/proc/sys/user/max_user_namespaces") == "0":
        remedy = "sysctl -w user.max_user_namespaces=15000"
    else:
        return "Ask the administrator to allow user namespaces, or run Lamella as root"
    return f"As root: {remedy}"


def lingering_feature() -> HostFeature | None:
    """Whether the user's containers live on after logging out; None where no systemd ends them."""
    if not is_booted_with_systemd():
        return None
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    if (_LINGER_DIRECTORY / name).exists():
        return HostFeature(
            name="lingering", is_available=True, detail="containers live on after you log out"
        )
    return HostFeature(
        name="lingering",
        is_available=False,
        detail="containers may end when you log out",
        remedy="loginctl enable-linger",
    )


def _read(path: str) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""
