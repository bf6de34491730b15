"""Files and helpers that tell who we are, damaged or hostile: refused in a sentence, or read."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidInputError, RegistryError
from engine.operations import CancelledRead
from engine.registry.connections import Breaker
from engine.registry.credentials import (
    Credential,
    find_credential,
    forget_credential,
    store_credential,
)
from engine.registry.endpoints import certificate_directory
from engine.registry.helper_programs import HelperFailedError, run_helper
from engine.registry.settings import RegistrySettings

LOGIN = Credential(username="a", password="b")
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["é", "YTpi", "YQ==", "%%", "a:b", "\0", "tests", "../x", "A" * 5000])
)
_DOCUMENTS = st.dictionaries(
    st.sampled_from(["auths", "credHelpers", "credsStore", "HttpHeaders", "x"]),
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["r.io", "https://r.io/v1/", "r.io/team", "docker.io", "auth", "username",
                 "password", "identitytoken", "https://index.docker.io/v1/", "://", "/", ""]
            ),
            inner,
            max_size=4,
        ),
        max_leaves=10,
    ),
)  # fmt: skip
_FILES = _DOCUMENTS.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=50)
ODD_FILES = [
    b'{"auths":{"r.io":{"auth":"\xc3\xa9"}}}', b'{"x":' + b"[" * 100_000, b'{"x":"\xff"}',
    b'{"x":' + b"[" * 900 + b"]" * 900 + b"}", b'{"x":' + b"1" * 5000 + b"}", b'{"x":1e999}',
    b'{"auths":{"r.io":{"username":"\\ud800","password":"x"}}}', b'{"x":"\x01"}', b"\0" * 100,
    b'{"auths":{"r.io":null}}', b'{"credHelpers":{"r.io":null}}', b'{"auths":5,"auths":{}}',
    b'{"credsStore":"a\\u0000b"}', b'{"credsStore":"../../bin/sh"}', b'{"credsStore":"-x"}',
    b" " * (5 << 20),
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / ".docker").mkdir()
    return {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}


def config(home: dict[str, str]) -> Path:
    return Path(home["HOME"]) / ".docker" / "config.json"


def try_everything(home: dict[str, str], content: bytes) -> None:
    for act in (
        lambda: find_credential("r.io", "team/web", home),
        lambda: store_credential("r.io", LOGIN, home),
        lambda: forget_credential("r.io", home),
    ):
        config(home).write_bytes(content)
        with contextlib.suppress(EngineError):
            act()


@pytest.mark.parametrize("content", ODD_FILES, ids=range(len(ODD_FILES)))
def test_a_file_of_nonsense_is_read_or_refused(home, content: bytes) -> None:
    try_everything(home, content)


@settings(max_examples=200, deadline=None)
@given(content=_FILES)
def test_no_file_is_too_odd(content: bytes, tmp_path_factory) -> None:
    top = tmp_path_factory.mktemp("home")
    (top / ".docker").mkdir()
    try_everything({"HOME": str(top), "PATH": ""}, content)


def test_a_login_keeps_what_it_cannot_read_byte_for_byte(home) -> None:
    odd = b'{"number":1e999,"digits":' + b"1" * 5000 + b',"text":"\xff","auths":{"x":{"y":0.10}}}'
    config(home).write_bytes(odd)
    store_credential("r.io", LOGIN, home)
    kept = config(home).read_bytes()
    for part in (b"1e999", b"1" * 5000, b'"\xff"', b"0.10"):
        assert part in kept
    assert find_credential("r.io", "web", home) == LOGIN
    assert forget_credential("r.io", home)


def test_a_home_that_cannot_be_written_is_said(home) -> None:
    directory = config(home).parent
    directory.rmdir()
    directory.write_text("in the way")
    with pytest.raises(InvalidInputError, match=r"cannot write .*config\.json"):
        store_credential("r.io", LOGIN, home)


def helper(home: dict[str, str], script: str) -> None:
    program = Path(home["HOME"]) / "bin" / "docker-credential-tests"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    config(home).write_text('{"credsStore": "tests"}')


@pytest.mark.parametrize(
    "script",
    [
        """printf '{"x":'; head -c 100000 /dev/zero | tr '\\0' '['""",
        "echo '{\"Username\":null}'",
        "true",
        "head -c 100 /dev/urandom",
        "echo '[]'",
        "printf '\\033[31mbad'; exit 1",
        "kill -9 $$",
        "cat /dev/zero",
        "cat /dev/zero >&2",
        "exit 3",
    ],
)
def test_a_helper_of_nonsense_is_an_error_that_names_it(home, script: str) -> None:
    helper(home, script)
    with pytest.raises(RegistryError, match="docker-credential-tests"):
        find_credential("r.io", "web", home)


def test_a_helper_that_is_no_program_is_named(home) -> None:
    helper(home, "")
    program = Path(home["HOME"]) / "bin" / "docker-credential-tests"
    program.write_bytes(b"\0\1")
    with pytest.raises(RegistryError, match="docker-credential-tests get failed"):
        find_credential("r.io", "web", home)


def test_a_helper_may_close_what_it_is_given_and_leave_somebody_behind(home, tmp_path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    answer = json.dumps({"Username": "a", "Secret": "b"})
    # Who stays behind has the pipes open, and would be waited for.
    helper(home, f"exec <&-; echo '{answer}'; cat {gate} &")
    assert find_credential("r.io", "web", home) == LOGIN
    gate.write_text("go")


def test_a_helper_that_does_not_end_is_ended(home, tmp_path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    helper(home, f"exec cat {gate}")
    program = str(Path(home["HOME"]) / "bin" / "docker-credential-tests")
    with pytest.raises(HelperFailedError, match="does not end"):
        run_helper([program, "get"], b"r.io", home, longest_seconds=0.1)


@pytest.mark.parametrize(
    "act",
    [
        lambda home, breaker: find_credential("r.io", "web", home, breaker=breaker),
        lambda home, breaker: store_credential("r.io", LOGIN, home, breaker=breaker),
        lambda home, breaker: forget_credential("r.io", home, breaker=breaker),
    ],
    ids=["find", "store", "forget"],
)
def test_a_helper_that_does_not_end_can_be_given_up(home, tmp_path, act) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    helper(home, f"echo begun >{gate}; exec cat {gate}")
    breaker = Breaker()
    ends: list[BaseException] = []

    def work() -> None:
        try:
            act(home, breaker)
        except CancelledRead as error:
            ends.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert gate.read_text() == "begun\n"
    before = time.monotonic()
    breaker.cut()
    thread.join(50)
    assert ends
    assert time.monotonic() - before < 50
    with pytest.raises(CancelledRead):
        act(home, breaker)


@given(st.text(max_size=30), st.text(max_size=30))
def test_who_we_are_is_read_back_as_it_was_written(tmp_path_factory, name: str, word: str) -> None:
    home = {"HOME": str(tmp_path_factory.mktemp("home")), "PATH": ""}
    login = Credential(username=name.replace(":", ""), password=word.strip("\0"))
    store_credential("r.io", login, home)
    found = find_credential("r.io", "", home)
    assert found == (login if login.username and login.password else None)


def test_an_entry_that_is_no_base64_is_named(home) -> None:
    for text in ("é", "%%", base64.b64encode(b"\xff\xfe").decode()):
        config(home).write_text(json.dumps({"auths": {"r.io": {"auth": text}}}))
        with pytest.raises(InvalidInputError, match=r"what is kept for r\.io is damaged"):
            find_credential("r.io", "web", home)


TOMLS = [
    b"a = " + b"[" * 20_000, b"a = " + b"1" * 5000, b"\0", b"\xff", b"[registry]\nx = 5",
    b"a = 0000-99-99", b'[registry."x"]\nmirrors = [1]', b"[[registry]]", b'registry = "x"',
    b"a" + b".a" * 3000 + b" = 1 1", b'[registry."x"]\nsearch = []',
]  # fmt: skip


@pytest.mark.parametrize("content", TOMLS, ids=range(len(TOMLS)))
def test_settings_of_nonsense_are_refused_with_the_file(tmp_path, content: bytes) -> None:
    path = tmp_path / "registries.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"registries\.toml"):
        RegistrySettings.load({"LAMELLA_REGISTRIES": str(path)})


@settings(deadline=None)
@given(st.binary(max_size=80) | st.text('[]"=registy.\n x5', max_size=60).map(str.encode))
def test_no_settings_are_too_odd(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("settings") / "registries.toml"
    path.write_bytes(content)
    with contextlib.suppress(InvalidInputError):
        RegistrySettings.load({"LAMELLA_REGISTRIES": str(path)})


def test_a_place_for_settings_that_cannot_be_looked_into_is_said(tmp_path) -> None:
    place = str(tmp_path / ("x" * 300))
    with pytest.raises(InvalidInputError, match="cannot read"):
        RegistrySettings.load({"XDG_CONFIG_HOME": place})
    settings = RegistrySettings(certificate_directories=(Path(place),))
    with pytest.raises(InvalidInputError, match="cannot look for certificates"):
        certificate_directory("r.io", settings)
