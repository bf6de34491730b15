"""`search`, `login` and `logout` over the engine that answers from memory."""

import io
import json

import pytest

from engine.types import FoundImage
from tests.fakes import FakeEngine

HUB = "docker.io"


@pytest.fixture
def engine():
    fake = FakeEngine()
    fake.repositories = [
        FoundImage(
            name="debian",
            description="Debian is a Linux distribution that's\ncomposed of free software",
            star_count=5000,
            is_official=True,
            pull_count=10,
        ),
        FoundImage(name="somebody/debian", description="mine", star_count=1, is_automated=True),
    ]
    fake.remote_tags["debian"] = ("bookworm", "latest", "trixie")
    fake.accounts[HUB, "me"] = "secret"
    return fake


@pytest.fixture
def given(monkeypatch):
    """Standard input with a text."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_search_shows_stars_and_what_is_official(lamella):
    code, out, _ = lamella("search", "debian")

    assert code == 0
    assert out.splitlines() == [
        "NAME              DESCRIPTION                                     STARS   OFFICIAL",
        "debian            Debian is a Linux distribution that's compos…   5000    [OK]",
        "somebody/debian   mine                                            1",
    ]
    assert "composed of free software" in lamella("search", "--no-trunc", "debian")[1]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--filter", "stars=2"), ["debian"]),
        (("--filter", "is-official=false"), ["somebody/debian"]),
        (("--filter", "is-automated=true"), ["somebody/debian"]),
        (("--limit", "1"), ["debian"]),
    ],
)
def test_search_shows_what_is_asked_for(lamella, words, names):
    code, out, err = lamella("search", "--format", "{{.Name}}", *words, "debian")

    assert (code, err) == (0, "")
    assert out.split() == names


def test_search_writes_json(lamella):
    _, out, _ = lamella("search", "--format", "json", "debian")

    first = json.loads(out.splitlines()[0])
    assert (first["Name"], first["StarCount"], first["IsOfficial"]) == ("debian", "5000", "true")
    assert first["pull_count"] == 10


def test_search_lists_the_tags_of_a_repository(lamella):
    _, out, _ = lamella("search", "--list-tags", "debian")
    assert out.split() == [
        "NAME", "TAG", "debian", "bookworm", "debian", "latest", "debian", "trixie"
    ]  # fmt: skip
    _, out, _ = lamella("search", "--list-tags", "--format", "{{.Tag}}", "--limit", "2", "debian")
    assert out.split() == ["bookworm", "latest"]
    code, _, err = lamella("search", "--list-tags", "nothing")
    assert code == 1
    assert "manifest for nothing not found: name unknown" in err


@pytest.mark.parametrize(
    "words", [("--limit", "101"), ("--limit", "x"), ("--filter", "stars=x"), ("--filter", "a=b")]
)
def test_search_refuses_what_makes_no_sense(lamella, words):
    assert lamella("search", *words, "debian")[0] == 125


def test_login_with_a_password_from_a_pipe(lamella, given, engine):
    given("secret\n")
    code, out, err = lamella("login", "-u", "me", "--password-stdin")

    assert (code, out) == (0, "Login Succeeded\n")
    assert "stored unencrypted in /fake/config.json" in err
    assert engine.kept_logins == {HUB: "me"}
    code, out, err = lamella("login")
    assert (code, out) == (0, "Login Succeeded\n")
    assert "existing credentials" in err


def test_login_warns_of_a_password_that_others_can_see(lamella):
    code, _, err = lamella("login", "-u", "me", "-p", "secret")

    assert code == 0
    assert "Using --password via the CLI is insecure. Use --password-stdin." in err


def test_login_with_a_wrong_password_says_so(lamella, engine):
    code, out, err = lamella("login", "-u", "me", "-p", "wrong")

    assert (code, out) == (1, "")
    assert "unauthorized: incorrect username or password" in err
    assert not engine.kept_logins


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--password-stdin",), "the --password-stdin option requires --username to be set"),
        (("-p", "x"), "Must provide --username with --password"),
        (("-u", "me", "-p", "x", "--password-stdin"), "mutually exclusive"),
        ((), "Cannot perform an interactive login from a non TTY device"),
        (("-u", "me"), "Cannot perform an interactive login from a non TTY device"),
    ],
)
def test_login_asks_for_what_it_needs(lamella, given, words, said):
    given("")
    code, _, err = lamella("login", *words)

    assert code == 125
    assert said in err


def test_logout_says_whether_there_was_a_login(lamella, engine):
    engine.kept_logins[HUB] = "me"

    assert lamella("logout")[1] == "Removing login credentials for https://index.docker.io/v1/\n"
    assert lamella("logout")[1] == "Not logged in to https://index.docker.io/v1/\n"
    assert lamella("logout", "r.lan:5000")[1] == "Not logged in to r.lan:5000\n"


def test_what_is_deleted_from_a_registry_is_said(lamella, engine):
    engine.remote_tags["localhost:5000/web"] = ("1", "2")
    code, out, err = lamella("delete", "localhost:5000/web:1")
    assert (code, err) == (0, "")
    assert out == f"Deleted: localhost:5000/web:1 (sha256:{'d' * 64})\n"
    assert engine.remote_tags["localhost:5000/web"] == ("2",)
    code, out, err = lamella("delete", "localhost:5000/web:1", "localhost:5000/web")
    assert (code, out) == (1, "")
    assert "manifest for localhost:5000/web:1 not found" in err
    assert "which tag or digest" in err
