"""From the text of a Dockerfile to its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.build.grammar import is_refused_trigger, read_from, read_instruction, refused_trigger
from engine.build.instructions import ArgInstruction, Dockerfile, Stage
from engine.build.lines import LineReader, heredoc_words
from engine.build.spans import Position
from engine.build.statements import Statement

if TYPE_CHECKING:
    from engine.build.instructions import BuildInstruction, FromInstruction
    from engine.build.lines import InstructionLine

_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


def parse_dockerfile(data: bytes, *, name: str) -> Dockerfile:
    """Read a whole Dockerfile.

    Args:
        data: The file.
        name: How errors call it.

    Raises:
        DockerfileError: The file is not a Dockerfile.
    """
    reader = LineReader(data, name=name)
    arguments: list[ArgInstruction] = []
    stages: list[tuple[FromInstruction, list[BuildInstruction]]] = []
    for line in reader.instructions():
        statement = _statement(reader, line)
        if statement.name == "FROM":
            stages.append((read_from(statement), []))
            continue
        instruction = read_instruction(statement)
        if stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, ArgInstruction):
            arguments.append(instruction)
        else:
            raise statement.error(
                "no build stage in current context",
                expected="FROM before every other instruction but ARG",
                at=statement.keyword,
            )
    if not stages:
        raise reader.source.error(
            Position(max(reader.last_line, 1), 1),
            "dockerfile contains no stages to build" if arguments else "file with no instructions",
            expected="FROM IMAGE",
        )
    return Dockerfile(
        name=name,
        directives=reader.directives,
        escape=reader.escape,
        arguments=tuple(arguments),
        stages=tuple(
            Stage(
                index=index,
                name=base.stage.text.lower() if base.stage else "",
                base=base,
                instructions=tuple(instructions),
            )
            for index, (base, instructions) in enumerate(stages)
        ),
        lines=tuple(text.rstrip("\r") for text in reader.source.lines),
    )


def parse_trigger(expression: str, *, name: str) -> BuildInstruction:
    """Read an instruction that an image's configuration holds for those who build on it.

    Args:
        expression: What followed ONBUILD, here-documents included.
        name: How errors call it.

    Raises:
        DockerfileError: It is no instruction, or one that cannot be a trigger.
    """
    reader = LineReader(expression.encode("utf-8", "surrogateescape"), name=name)
    statements = (_statement(reader, line) for line in reader.instructions())
    statement = next(statements, None)
    if statement is None:
        raise reader.source.error(
            Position(1, 1), "file with no instructions", expected="an instruction"
        )
    if is_refused_trigger(statement):
        raise refused_trigger(statement)
    instruction = read_instruction(statement)
    if (other := next(statements, None)) is not None:
        raise other.error(
            "more than one instruction in a trigger", expected="its end", at=other.keyword
        )
    return instruction


def _statement(reader: LineReader, line: InstructionLine) -> Statement:
    """Divide a line, and read the here-documents that it begins."""
    statement = Statement(line, 0, escape=reader.escape)
    command = statement
    if statement.name == "ONBUILD":
        command = Statement(line, statement.start, escape=reader.escape)
    if command.name in _WITH_HEREDOCS and command.json_words() is None:
        statement.heredocs = tuple(
            reader.heredoc(line, start, end, word)
            for start, end, word in heredoc_words(line.text, command.start)
        )
    return statement
