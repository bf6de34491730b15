"""How BuildKit writes instructions into an image's history, to the letter.

`docker history` and its like show these texts, and scanners look for things in them. (BuildKit,
frontend/dockerfile/dockerfile2llb/convert.go; what they come to was observed.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.build.durations import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.build.instructions import FilesInstruction

COMMENT = "buildkit.dockerfile.v0"
"""What the history's entries have for a comment."""

_WITH_LAYER = " # buildkit"
_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip
_LAST_ASCII = 0x7F
_LAST_OF_BASIC_PLANE = 0xFFFF


def run_text(arguments: Sequence[str], build_arguments: Iterable[tuple[str, str]] = ()) -> str:
    """RUN.

    Args:
        arguments: What is executed, the shell before it included.
        build_arguments: Those of the stage so far, in the order of their first ARG, with the values
            that they have here; the predefined ones that no ARG declares are not among them.
    """
    declared = [f"{name}={value}" for name, value in dict(build_arguments).items()]
    count = [f"|{len(declared)}"] if declared else []
    return " ".join(("RUN", *count, *declared, *arguments)) + _WITH_LAYER


def files_text(instruction: FilesInstruction) -> str:
    """COPY and ADD, with variables expanded."""
    words = [instruction.name]
    if instruction.keeps_parents:
        words.append("--parents")
    if instruction.owner is not None and instruction.owner.text:
        words.append(f"--chown={instruction.owner.text}")
    if instruction.mode is not None and instruction.mode.text:
        words.append(f"--chmod={instruction.mode.text}")
    words += [source.text for source in instruction.sources]
    words += [f"<<{heredoc.name}" for heredoc in instruction.heredocs]
    return " ".join((*words, instruction.destination.text)) + _WITH_LAYER


def workdir_text(path: str) -> str:
    """WORKDIR, with the absolute path that it comes to."""
    return f"WORKDIR {path}"


def env_text(pairs: Iterable[tuple[str, str]]) -> str:
    """ENV."""
    return " ".join(("ENV", *(f"{name}={value}" for name, value in pairs)))


def label_text(pairs: Iterable[tuple[str, str]]) -> str:
    """LABEL."""
    return " ".join(("LABEL", *(f"{name}={value}" for name, value in pairs)))


def arg_text(pairs: Iterable[tuple[str, str | None]]) -> str:
    """ARG, with the values that the arguments have; None for one that has none."""
    return " ".join(
        ("ARG", *(name if value is None else f"{name}={value}" for name, value in pairs))
    )


def cmd_text(arguments: Sequence[str]) -> str:
    """CMD, the shell before it included."""
    return f"CMD {_quoted_list(arguments)}"


def entrypoint_text(arguments: Sequence[str]) -> str:
    """ENTRYPOINT, the shell before it included."""
    return f"ENTRYPOINT {_quoted_list(arguments)}"


def shell_text(words: Sequence[str]) -> str:
    """SHELL."""
    return f"SHELL [{' '.join(words)}]"


def user_text(user: str) -> str:
    """USER."""
    return f"USER {user}"


def volume_text(paths: Sequence[str]) -> str:
    """VOLUME."""
    return f"VOLUME [{' '.join(paths)}]"


def expose_text(ports: Iterable[str]) -> str:
    """EXPOSE, with ports as the image's configuration has them: `80/tcp`."""
    return f"EXPOSE [{' '.join(sorted(ports))}]"


def stop_signal_text(signal: str) -> str:
    """STOPSIGNAL."""
    return f"STOPSIGNAL {signal}"


def maintainer_text(author: str) -> str:
    """MAINTAINER."""
    return f"MAINTAINER {author}"


def healthcheck_text(
    test: Sequence[str],
    *,
    interval_nanoseconds: int = 0,
    timeout_nanoseconds: int = 0,
    start_period_nanoseconds: int = 0,
    start_interval_nanoseconds: int = 0,
    retries: int = 0,
) -> str:
    """HEALTHCHECK.

    Args:
        test: As the image's configuration has it: `CMD-SHELL` and the command, or `NONE`.
        interval_nanoseconds: This and the others as the configuration has them.
        timeout_nanoseconds: See there.
        start_period_nanoseconds: See there.
        start_interval_nanoseconds: See there.
        retries: See there.
    """
    fields = (
        f"Test:[{' '.join(test)}]",
        f"Interval:{duration_text(interval_nanoseconds)}",
        f"Timeout:{duration_text(timeout_nanoseconds)}",
        f"StartPeriod:{duration_text(start_period_nanoseconds)}",
        f"StartInterval:{duration_text(start_interval_nanoseconds)}",
        f"Retries:{retries}",
    )
    return f"HEALTHCHECK {{{' '.join(fields)}}}"


def _quoted_list(texts: Sequence[str]) -> str:
    return f"[{' '.join(map(go_quoted, texts))}]"


def go_quoted(text: str) -> str:
    """A text as Go's strconv.Quote writes it."""
    return f'"{"".join(map(_quoted_character, text))}"'


def _quoted_character(character: str) -> str:
    if (escaped := _ESCAPES.get(character)) is not None:
        return escaped
    if character.isprintable():
        return character
    code = ord(character)
    if "\udc80" <= character <= "\udcff":
        # A byte that is no text.
        return f"\\x{code - 0xDC00:02x}"
    if code <= _LAST_ASCII:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= _LAST_OF_BASIC_PLANE else f"\\U{code:08x}"
