"""The texts of the history."""

import pytest

from engine.build import created_by
from engine.build.durations import duration_text, nanoseconds


def test_run_has_its_arguments_before_its_words():
    assert created_by.run_text(["/bin/sh", "-c", "echo hi"]) == "RUN /bin/sh -c echo hi # buildkit"
    assert (
        created_by.run_text(["/bin/sh", "-c", "echo hi"], [("A", "1"), ("B", ""), ("A", "2")])
        == "RUN |2 A=2 B= /bin/sh -c echo hi # buildkit"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (created_by.env_text([("X", "a"), ("Y", "b c")]), "ENV X=a Y=b c"),
        (created_by.label_text([("x", "a")]), "LABEL x=a"),
        (created_by.arg_text([("A", None), ("B", "1"), ("C", "")]), "ARG A B=1 C="),
        (created_by.cmd_text(["/bin/sh", "-ec", "run me"]), 'CMD ["/bin/sh" "-ec" "run me"]'),
        (created_by.cmd_text([]), "CMD []"),
        (created_by.entrypoint_text(['a"b', "é\t"]), 'ENTRYPOINT ["a\\"b" "é\\t"]'),
        (created_by.shell_text(["/bin/bash", "-c"]), "SHELL [/bin/bash -c]"),
        (created_by.user_text("1:2"), "USER 1:2"),
        (created_by.workdir_text("/w/sub"), "WORKDIR /w/sub"),
        (created_by.volume_text(["/v1", "/v2"]), "VOLUME [/v1 /v2]"),
        (created_by.expose_text(["8080/tcp", "53/udp"]), "EXPOSE [53/udp 8080/tcp]"),
        (created_by.stop_signal_text("SIGINT"), "STOPSIGNAL SIGINT"),
        (created_by.maintainer_text("a b"), "MAINTAINER a b"),
        (
            created_by.healthcheck_text(["CMD-SHELL", "true"], interval_nanoseconds=5 * 10**9),
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:5s Timeout:0s StartPeriod:0s "
            "StartInterval:0s Retries:0}",
        ),
    ],
)
def test_instructions_without_layers(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("\0\x7f", '"\\x00\\x7f"'),
        ("\udcff", '"\\xff"'),
        ("\u200b\U000e0001", '"\\u200b\\U000e0001"'),
        ("a\\b\n", '"a\\\\b\\n"'),
    ],
)
def test_texts_are_quoted_as_go_does(text, quoted):
    assert created_by.go_quoted(text) == quoted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("5s", 5 * 10**9),
        ("1h2m3.5s", 3_723_500_000_000),
        ("100ms", 10**8),
        (".5us", 500),
        ("-1s", -(10**9)),
        ("5", None),
        ("", None),
        ("1 s", None),
        ("9" * 30 + "h", None),
    ],
)
def test_durations_are_read_as_go_does(text, value):
    assert nanoseconds(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1500, "1.5µs"),
        (10**8, "100ms"),
        (90 * 10**9, "1m30s"),
        (3600 * 10**9, "1h0m0s"),
        (3_723_500_000_000, "1h2m3.5s"),
        (-(10**9), "-1s"),
    ],
)
def test_durations_are_written_as_go_does(value, text):
    assert duration_text(value) == text
    assert nanoseconds(text) == value
