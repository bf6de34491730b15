"""What an ordinary user's host may lack: one sentence and what to do, never a traceback."""

import os
import shutil

import pytest


def complaint(ended):
    """The sentence and the hint of a command that failed."""
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "unexpected" not in ended.stderr
    error, hint = ended.stderr.splitlines()[-2:]
    assert error.startswith("Error: ")
    assert hint.startswith("hint: ")
    return error, hint


def plain(session, *words):
    """A command without --root."""
    return session.python("-m", "tui", *words)


@pytest.mark.parametrize("home", ["/", "/proc", "/nonexistent"])
def test_a_home_that_cannot_be_written(anyone, home):
    poor = anyone.with_variables(HOME=home, XDG_DATA_HOME="", XDG_RUNTIME_DIR="", LAMELLA_ROOT="")
    error, hint = complaint(plain(poor, "ps"))
    assert "cannot use" in error
    assert "--root" in hint


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("/root/store", "permission denied"),
        ("/usr/lib", "belongs to user 0"),
        ("/etc/passwd", "not a directory"),
    ],
)
def test_a_store_that_is_somebody_else_s(anyone, root, reason):
    error, hint = complaint(plain(anyone, "--root", root, "ps"))
    assert reason in error
    assert "--root" in hint


def test_a_store_that_cannot_be_written(anyone):
    anyone.done("ps")
    anyone.store.chmod(0o500)
    try:
        error, _hint = complaint(anyone.lamella("ps"))
    finally:
        anyone.store.chmod(0o700)
    assert "cannot be written" in error


def test_no_runtime_directory_is_no_trouble(anyone):
    for directory in ("", "/nonexistent"):
        assert anyone.with_variables(XDG_RUNTIME_DIR=directory).done("ps", "-q") == ""


_IN_A_REMOVED_DIRECTORY = """
import os, sys, tempfile
directory = tempfile.mkdtemp()
os.chdir(directory)
os.rmdir(directory)
os.execv(sys.executable, [sys.executable, "-m", "tui", *sys.argv[1:]])
"""


def test_a_removed_working_directory_matters_only_to_relative_names(anyone):
    def run(session, *words):
        return session.python("-c", _IN_A_REMOVED_DIRECTORY, *words)

    assert run(anyone, "--root", str(anyone.store), "ps").returncode == 0
    for ended in (
        run(anyone, "--root", "store", "ps"),
        run(anyone.with_variables(LAMELLA_ROOT="store"), "ps"),
    ):
        error, hint = complaint(ended)
        assert "working directory was removed" in error
        assert "absolute path" in hint


def test_a_plain_locale_and_terminal(anyone):
    poor = anyone.with_variables(LANG="C", LC_ALL="C", PYTHONUTF8="0", TERM="dumb")
    assert poor.done("info").isascii()
    error, _hint = complaint(plain(poor))
    assert "needs a terminal" in error


def test_user_namespaces_that_are_forbidden(anyone):
    """A user namespace whose own limit is none stands for a host that allows none."""
    if shutil.which("unshare") is None:
        pytest.skip("needs the program unshare")
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    enter = "import os, sys; os.execvp('unshare', ['unshare', *sys.argv[1:]])"

    def run(*words):
        return anyone.python(
            *("-c", enter, "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh"),
            *("env", "-u", "LAMELLA_ROOT"),
            *(python_of(anyone), "-m", "tui", "--root", str(anyone.store), *words),
        )

    told = run("info")
    if told.returncode != 0 and "unshare" in told.stderr:
        pytest.skip(f"this host forbids them already: {told.stderr.strip()}")
    assert "As root: sysctl -w user.max_user_namespaces" in told.stdout
    error, hint = complaint(run("demo"))
    assert "a user namespace is not available here" in error
    assert "sysctl -w user.max_user_namespaces" in hint


def python_of(session):
    ended = session.python("-c", "import sys; print(sys.executable)")
    assert os.path.isabs(ended.stdout.strip())
    return ended.stdout.strip()
