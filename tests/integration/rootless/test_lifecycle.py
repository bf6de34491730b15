"""Restart policies, health checks and the init under an ordinary user."""

import json


def details_of(session, name):
    (details,) = json.loads(session.done("inspect", name))
    return details


def read_until(session, name, is_so):
    """Inspect a container again and again until something is so."""
    while not is_so(details := details_of(session, name)["summary"]):
        pass
    return details


def test_one_that_fails_is_started_again_with_no_application_open(session):
    session.done(
        *("run", "-d", "--name", "fails", "--restart", "on-failure:2"),
        *("starter", "sh", "-c", "echo begun; exit 3"),
    )
    ended = read_until(session, "fails", lambda summary: summary["status"] == "exited")
    assert (ended["restart_count"], ended["exit_code"]) == (2, 3)
    assert session.done("logs", "fails").splitlines() == ["begun"] * 3
    session.done("rm", "fails")


def test_health_is_asked_and_the_init_passes_signals_on(session):
    session.done(
        *("run", "-d", "--name", "checked", "--init", "--health-cmd", "test $(id -u) = 0"),
        *("--health-interval", "50ms", "starter", "sleep", "1000"),
    )
    read_until(session, "checked", lambda summary: summary["health"] == "healthy")
    assert "(healthy)" in session.done("ps")
    session.done("stop", "--timeout", "-1", "checked")
    assert session.done("wait", "checked") == "143"
    session.done("rm", "checked")
