import pytest

from tui.cli.options import UsageError, parse
from tui.cli.run import COMMANDS

RUN = COMMANDS[0]


def parsed(*words):
    return parse(words, RUN.options, command="run", stops_at_operand=True)


def test_everything_behind_the_image_belongs_to_the_container():
    arguments = parsed("--rm", "-e", "A=1", "web", "ls", "-d", "--name", "x", "--", "-h")

    assert arguments.operands == ["web", "ls", "-d", "--name", "x", "--", "-h"]
    assert arguments.is_on("rm")
    assert arguments.text("name") is None
    assert not arguments.is_on("detach")


@pytest.mark.parametrize(
    "words", [("-m512m",), ("-m", "512m"), ("-m=512m",), ("--memory", "512m"), ("--memory=512m",)]
)
def test_a_value_may_stand_in_each_of_dockers_places(words):
    assert parsed(*words, "web").text("memory") == "512m"


def test_letters_may_be_joined():
    arguments = parsed("-dewhere=here", "web")

    assert arguments.is_on("detach")
    assert arguments.texts("env") == ("where=here",)


def test_a_repeated_option_keeps_every_value_in_order():
    assert parsed("-e", "A=1", "--env=B=2", "-eC", "web").texts("env") == ("A=1", "B=2", "C")


def test_a_switch_can_be_given_as_false():
    assert not parsed("--rm", "--rm=false", "web").is_on("rm")


def test_the_store_may_be_named_behind_the_command():
    assert parsed("--root", "/tmp/store", "web").text("root") == "/tmp/store"


def test_h_is_the_host_name_of_run_and_help_elsewhere():
    assert parsed("-h", "box", "web").text("hostname") == "box"
    assert parse(["-h"], (), command="ps").is_on("help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nmae", "x"), "unknown option: --nmae"),
        (("-dX",), "unknown option: -X in -dX"),
        (("--name",), "option needs a value: --name"),
        (("-e",), "option needs a value: -e"),
        (("--rm=maybe", "web"), "--rm is true or false, not 'maybe'"),
    ],
)
def test_a_wrong_option_is_named(words, message):
    with pytest.raises(UsageError, match=message) as caught:
        parsed(*words)
    assert caught.value.exit_code == 125
    assert caught.value.hint == "see `lamella run --help`"
