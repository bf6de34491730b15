"""Finding and starting a browser, with programs that stand for browsers."""

import os

import pytest

from tui import browser
from tui.browser import find_browser, open_in_browser

URL = "http://localhost:8080/"


@pytest.fixture
def programs(tmp_path):
    """Makes a program of this name that does what the script says."""

    def make(name, script="exit 0"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def environment(tmp_path):
    return {"PATH": str(tmp_path)}


def test_without_a_display_and_without_a_choice_there_is_none(programs, environment):
    programs("xdg-open")
    assert find_browser(environment) is None


def test_with_a_display_the_desktops_own_is_taken(programs, environment):
    path = programs("xdg-open")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        assert find_browser({**environment, name: ":0"}) == (path, "%s")


def test_a_display_with_nothing_that_opens_addresses_is_none(environment):
    assert find_browser({**environment, "DISPLAY": ":0"}) is None


def test_the_persons_choice_goes_first_also_without_a_display(programs, environment):
    programs("xdg-open")
    path = programs("helper")
    for chosen in ("helper", path, f"missing{os.pathsep}helper"):
        found = find_browser({**environment, "DISPLAY": ":0", "BROWSER": chosen})
        assert found == (path, "%s")
    assert find_browser({**environment, "BROWSER": "helper"}) == (path, "%s")


def test_options_of_the_choice_are_kept_and_the_address_stands_where_it_says(programs, environment):
    path = programs("helper")
    found = find_browser({**environment, "BROWSER": "helper --new '--app=%s'"})
    assert found == (path, "--new", "--app=%s")
    assert find_browser({**environment, "BROWSER": "helper --new"}) == (path, "--new", "%s")


@pytest.mark.parametrize("name", ["lynx", "w3m", "www-browser", "elinks"])
def test_a_browser_of_terminals_would_draw_over_the_application(programs, environment, name):
    programs(name)
    assert find_browser({**environment, "BROWSER": name}) is None


def test_a_choice_that_is_no_command_line_is_passed_over(programs, environment):
    path = programs("helper")
    chosen = f"'unfinished{os.pathsep}helper"
    assert find_browser({**environment, "BROWSER": chosen}) == (path, "%s")


def test_it_gets_the_address_as_one_word_and_no_shell_sees_it(programs, tmp_path):
    told = tmp_path / "told"
    path = programs("helper", f'printf "%s|" "$#" "$@" > {told}')
    assert open_in_browser((path, "--app=%s"), "http://h/$(touch x); a b")
    assert told.read_text() == "1|--app=http://h/$(touch x); a b|"


def test_one_that_refuses_or_is_none_is_told(programs, tmp_path):
    assert not open_in_browser((programs("helper", "exit 3"), "%s"), URL)
    assert not open_in_browser((str(tmp_path / "missing"), "%s"), URL)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0")
    broken.chmod(0o755)
    assert not open_in_browser((str(broken), "%s"), URL)


def test_one_that_runs_on_is_not_waited_for_and_is_collected(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "SETTLING_SECONDS", 0.05)
    gate, number = tmp_path / "gate", tmp_path / "number"
    os.mkfifo(gate)
    path = programs("helper", f"echo $$ > {number}\nread line < {gate}\nexit 1")
    assert open_in_browser((path, "%s"), URL)
    with gate.open("w") as file:  # opens when the helper reads, which is still there
        file.write("go\n")
    waiting = [one for one in browser.threading.enumerate() if one.name == "lamella-browser"]
    for thread in waiting:
        thread.join(10)
    with pytest.raises(ChildProcessError):
        os.waitpid(int(number.read_text()), os.WNOHANG)
