"""Who we are to a registry, as Docker, Podman and their helpers keep it. Everything here blocks.

Read in this order: `$DOCKER_CONFIG/config.json` (`~/.docker`), then `$REGISTRY_AUTH_FILE`,
`$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json`. A login is
written where Docker writes it. A helper is a program `docker-credential-NAME` that reads the
server's address and answers in JSON (docker-credential-helpers).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from engine.errors import InvalidInputError, RegistryError
from engine.late_dataclasses import dataclass
from engine.registry.helper_programs import HelperFailedError, run_helper
from engine.registry.settings import DOCKER_HUB, configuration_directory, home_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.registry.connections import Breaker

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LARGEST_FILE = 4 << 20
_Parts: TypeAlias = dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A name with a password, or an identity token that stands for both."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identity_token: str | None = msgspec.field(default=None, name="identitytoken")


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """The part of config.json and auth.json that is about registries."""

    auths: dict[str, _Entry | None] | None = None
    helpers: dict[str, str] | None = msgspec.field(default=None, name="credHelpers")
    store: str | None = msgspec.field(default=None, name="credsStore")


class _HelperAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    username: str = ""
    secret: str = ""


class _HelperMissesError(Exception):
    """A helper knows nobody for a registry."""


def docker_configuration(environment: Mapping[str, str]) -> Path:
    """Docker's own file, which a login is written to."""
    directory = environment.get("DOCKER_CONFIG")
    return (Path(directory) if directory else home_directory(environment) / ".docker") / (
        "config.json"
    )


def credential_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Every file that may know us, the one that counts most first."""
    files = [docker_configuration(environment)]
    if named := environment.get("REGISTRY_AUTH_FILE"):
        files.append(Path(named))
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        files.append(Path(runtime) / "containers" / "auth.json")
    files.append(configuration_directory(environment) / "containers" / "auth.json")
    return tuple(files)


def find_credential(
    registry: str,
    repository: str,
    environment: Mapping[str, str],
    *,
    breaker: Breaker | None = None,
) -> Credential | None:
    """Look up who we are to a registry; None for nobody.

    Args:
        registry: As in an image's name: `docker.io`, `localhost:5000`.
        repository: Below it; entries of Podman's may be for some of a registry only.
        environment: Where the files are.
        breaker: Ends a helper that does not end.

    Raises:
        InvalidInputError: A file is damaged.
        RegistryError: A helper is missing or fails.
        CancelledRead: The breaker was told to cut.
    """
    for path in credential_files(environment):
        document = _read(path)
        helper = (document.helpers or {}).get(registry) or (document.helpers or {}).get(
            _server_key(registry)
        )
        for name in (helper, document.store):
            if name:
                with contextlib.suppress(_HelperMissesError):
                    return _ask_helper(name, registry, environment, breaker)
        found = _find_entry(document, registry, repository)
        if found is not None:
            return _credential_of(found, path, registry)
    return None


def store_credential(
    registry: str,
    credential: Credential,
    environment: Mapping[str, str],
    *,
    breaker: Breaker | None = None,
) -> tuple[str, bool]:
    """Keep a login where Docker keeps it; `breaker` ends a helper that does not end.

    Returns:
        The file or the helper that has it, and whether that is a plain file.

    Raises:
        InvalidInputError: The file that is there is damaged, or cannot be written.
        RegistryError: The helper is missing or fails.
    """
    path = docker_configuration(environment)
    document = _read(path)
    key = _server_key(registry)
    helper = (document.helpers or {}).get(registry) or document.store
    secret = credential.identity_token or credential.password
    if helper:
        name = _TOKEN_USER if credential.identity_token else credential.username
        entry = {"ServerURL": key, "Username": name, "Secret": secret}
        _run_helper(helper, "store", json.dumps(entry), registry, environment, breaker)
        return f"docker-credential-{helper}", False
    pair = f"{credential.username}:{'' if credential.identity_token else credential.password}"
    new_entry = {"auth": base64.b64encode(pair.encode()).decode()}
    if credential.identity_token:
        new_entry["identitytoken"] = credential.identity_token

    def change(auths: _Parts) -> None:
        auths[key] = msgspec.Raw(msgspec.json.encode(new_entry))

    _rewrite(path, change)
    return str(path), True


def forget_credential(
    registry: str, environment: Mapping[str, str], *, breaker: Breaker | None = None
) -> bool:
    """Take a login away from every file and helper that has it; False if none had.

    `breaker` ends a helper that does not end.

    Raises:
        InvalidInputError: A file is damaged or cannot be written.
        RegistryError: A helper is missing or fails.
    """
    was_known = False
    for path in credential_files(environment):
        document = _read(path)
        helpers = dict.fromkeys(
            name for name in ((document.helpers or {}).get(registry), document.store) if name
        )
        for helper in helpers:
            with contextlib.suppress(_HelperMissesError):
                _ask_helper(helper, registry, environment, breaker)
                _run_helper(helper, "erase", _server_key(registry), registry, environment, breaker)
                was_known = True
        doomed = [key for key in document.auths or {} if _registry_of(key) == registry]
        if doomed:

            def change(auths: _Parts, doomed: list[str] = doomed) -> None:
                for key in doomed:
                    auths.pop(key, None)

            _rewrite(path, change)
            was_known = True
    return was_known


def _server_key(registry: str) -> str:
    return _DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def _registry_of(key: str) -> str:
    """The registry that a key of `auths` is for; Docker wrote whole URLs once."""
    host = key.partition("://")[2] if "://" in key else key
    if "://" in key or "/v1" in host or "/v2" in host:
        host = host.partition("/")[0]
    return DOCKER_HUB if host in {"index.docker.io", "registry-1.docker.io"} else host


def _find_entry(document: _Document, registry: str, repository: str) -> _Entry | None:
    """The entry with the longest name that fits."""
    best: tuple[int, _Entry] | None = None
    whole = f"{registry}/{repository}"
    for key, entry in (document.auths or {}).items():
        name = _registry_of(key)
        if entry is None or not (name == registry or whole == name or whole.startswith(f"{name}/")):
            continue
        if best is None or len(name) > best[0]:
            best = (len(name), entry)
    return best[1] if best else None


def _credential_of(entry: _Entry, path: Path, registry: str) -> Credential | None:
    username, password = entry.username or "", entry.password or ""
    if entry.auth:
        try:
            pair = base64.b64decode("".join(entry.auth.split()), validate=True).decode()
        except ValueError as error:  # also of what is not ASCII, or not UTF-8 within
            raise InvalidInputError(
                f"{path}: what is kept for {registry} is damaged",
                hint=f"`lamella login {registry}` writes it again",
            ) from error
        username, _, password = pair.partition(":")
        password = password.strip("\0")
    token = entry.identity_token or ""
    if not token and not (username and password):
        return None
    return Credential(username=username, password=password, identity_token=token)


def _ask_helper(
    name: str, registry: str, environment: Mapping[str, str], breaker: Breaker | None
) -> Credential:
    content = _run_helper(name, "get", _server_key(registry), registry, environment, breaker)
    try:
        answer = msgspec.json.decode(content, type=_HelperAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(
            registry, f"docker-credential-{name} does not answer in JSON"
        ) from error
    if answer.username == _TOKEN_USER:
        return Credential(username="", identity_token=answer.secret)
    if not answer.username and not answer.secret:
        raise _HelperMissesError
    return Credential(username=answer.username, password=answer.secret)


def _run_helper(
    name: str,
    action: str,
    sent: str,
    registry: str,
    environment: Mapping[str, str],
    breaker: Breaker | None,
) -> bytes:
    program = f"docker-credential-{name}"
    if not _HELPER_NAME.fullmatch(name):
        raise InvalidInputError(f"not the name of a credential helper: {name[:100]!r}")
    try:
        done = run_helper([program, action], sent.encode(), environment, breaker=breaker)
    except (OSError, HelperFailedError) as error:
        # A PATH with a directory that may not be searched makes "not found" a "permission denied".
        if isinstance(error, FileNotFoundError) or not shutil.which(
            program, path=environment.get("PATH", os.defpath)
        ):
            raise RegistryError(
                registry,
                f"credential helper not found: {program}",
                hint=f"Install it, or take it out of {docker_configuration(environment)}",
            ) from error
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RegistryError(registry, f"{program} {action} failed: {reason}") from error
    if done.exit_code:
        said = (done.output or done.errors).decode("utf-8", "replace").strip()[:200]
        if "not found" in said or "no credentials" in said.lower():
            raise _HelperMissesError
        raise RegistryError(registry, f"{program} {action} failed: {said or done.exit_code}")
    return done.output


def _read(path: Path) -> _Document:
    content = _read_bytes(path)
    if not content.strip():
        return _Document()
    try:
        return msgspec.json.decode(content, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InvalidInputError:
    return InvalidInputError(f"cannot read {path}: {error}", hint="Mend the file, or move it away")


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > _LARGEST_FILE:
        raise InvalidInputError(f"cannot read {path}: it is larger than {_LARGEST_FILE} bytes")
    return content


def _rewrite(path: Path, change: Callable[[_Parts], None]) -> None:
    """Change `auths` and keep all the rest, for the owner only; the file is replaced as a whole."""
    content = _read_bytes(path)
    try:
        # What is not ours is kept byte for byte: it may be what we could not read.
        document = msgspec.json.decode(content, type=_Parts) if content.strip() else {}
        auths = msgspec.json.decode(document.get("auths", b"null"), type=_Parts | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, error) from error
    kept = auths or {}
    change(kept)
    document["auths"] = msgspec.Raw(msgspec.json.encode(kept))
    written = _indented(msgspec.json.encode(document))
    # A link stays one: the file may be kept with others, in another place.
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(written)
                file.flush()
                os.fsync(file.fileno())
            os.rename(name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror or error}") from error


def _indented(content: bytes) -> bytes:
    try:
        return msgspec.json.format(content, indent=2) + b"\n"
    except (msgspec.DecodeError, RecursionError):
        return content
