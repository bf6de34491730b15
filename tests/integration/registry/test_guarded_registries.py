"""Registries with TLS, passwords and tokens, from our command line and from skopeo's."""

import contextlib
import json
import os
import shutil
import subprocess

import pytest

from tests.command_line import CommandLine
from tests.registries import PASSWORD, USER, TokenServer, push_files, run_registry

pytestmark = pytest.mark.root
FILES = {"etc/hello": b"hello\n" * 1000}


@pytest.fixture
def command_line(store_paths, tmp_path):
    made = CommandLine(store_paths)
    made.environment["DOCKER_CONFIG"] = str(tmp_path / "docker")
    made.environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    return made


@pytest.fixture
def skopeo(tmp_path):
    """Copies images, with the login that we wrote."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed (`make test-tools` installs it)")

    def copy(source, target):
        environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path / "docker")}
        environment.pop("XDG_RUNTIME_DIR", None)
        done = subprocess.run(
            [
                "skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests",
                "--src-tls-verify=false", "--dest-tls-verify=false", source, target,
            ],
            env=environment, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()

    return copy


@contextlib.contextmanager
def guarded(kind, tmp_path, certificates):
    """A registry of a kind, and whether it wants a login."""
    with contextlib.ExitStack() as stack:
        directory = tmp_path / "guarded"
        match kind:
            case "tls":
                running = run_registry(directory, certificates=certificates)
            case "password and tls":
                running = run_registry(directory, certificates=certificates, has_passwords=True)
            case "password":
                running = run_registry(directory, has_passwords=True)
            case _:
                tokens = stack.enter_context(TokenServer(certificates).running())
                running = run_registry(directory, tokens=tokens)
        yield stack.enter_context(running).address


@pytest.mark.parametrize("kind", ["tls", "password", "password and tls", "token"])
def test_what_skopeo_pushed_is_pulled_and_what_we_push_skopeo_pulls(
    kind, tmp_path, certificates, registry, command_line, skopeo
):
    push_files(f"{registry.address}/plain:1", FILES)
    with guarded(kind, tmp_path, certificates) as address:
        if "tls" in kind:
            trusted = tmp_path / "config" / "lamella" / "certs.d" / address
            trusted.mkdir(parents=True)
            shutil.copy(certificates.authority, trusted / "ca.crt")
        if kind != "tls":
            refused = command_line("pull", f"{address}/theirs:1")
            assert refused.returncode == 1
            assert f"`lamella login {address}`" in refused.stderr.decode()
            words = ("login", "-u", USER, "--password-stdin", address)
            done = command_line(*words, stdin=PASSWORD.encode())
            assert done.returncode == 0, done.stderr.decode()

        skopeo(f"docker://{registry.address}/plain:1", f"docker://{address}/theirs:1")
        pulled = command_line.text("pull", f"{address}/theirs:1")
        command_line.text("tag", f"{address}/theirs:1", f"{address}/ours:1")
        pushed = command_line("push", f"{address}/ours:1")
        assert pushed.returncode == 0, pushed.stderr.decode()
        skopeo(f"docker://{address}/ours:1", f"dir:{tmp_path}/back")
        skopeo(f"docker://{registry.address}/plain:1", f"dir:{tmp_path}/there")

    back, there = (json.loads((tmp_path / name / "manifest.json").read_text())
                   for name in ("back", "there"))  # fmt: skip
    assert "Status: Downloaded newer image" in pulled
    assert back == there
