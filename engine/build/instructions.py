"""What a Dockerfile says: one frozen record for each instruction.

Words that the builder expands (`COPY $from /to`) keep quotes and variables: what they come to
depends on where in the build they stand (engine/build/words.py expands them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.build.flags import Flag
    from engine.build.lines import Directive, Heredoc
    from engine.build.mounts import MountFlag
    from engine.build.spans import Span, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How an instruction was written.

    Attributes:
        keyword: Its name as it was written.
        span: From its name to its end, here-documents included.
        text: Its lines without comments, joined where they continue each other.
        flags: Its options as they were written.
        comments: What the comments directly above it say.
        blank_lines: Numbers of blank lines within it.
    """

    keyword: Word
    span: Span
    text: str
    flags: tuple[Flag, ...]
    comments: tuple[str, ...]
    blank_lines: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What every instruction has."""

    origin: Origin

    @property
    def name(self) -> str:
        """The instruction's name in capitals."""
        return self.origin.keyword.text.upper()

    @property
    def span(self) -> Span:
        """From its name to its end, here-documents included."""
        return self.origin.span


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """`name=value`, or a name that an ARG declares without a value."""

    name: Word
    value: Word | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What a shell or the kernel is to run.

    Attributes:
        words: In exec form the arguments, decoded; in shell form one word, the text as it was
            written, or none when there is no text.
        is_exec: It was a JSON array, so no shell comes before it.
        heredocs: Here-documents of a RUN, in order.
        starts_like_json: It begins with a bracket and is not JSON, so a shell gets it as it is.
    """

    words: tuple[Word, ...]
    is_exec: bool
    heredocs: tuple[Heredoc, ...] = ()
    starts_like_json: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words' texts."""
        return tuple(word.text for word in self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class FromInstruction(Instruction):
    """FROM: the beginning of a stage.

    Attributes:
        image: Image, earlier stage or `scratch`; may have variables.
        stage: The name behind AS as it was written; names are the same whatever their case.
        as_keyword: How AS was written.
        platform: May have variables.
    """

    image: Word
    stage: Word | None
    as_keyword: Word | None
    platform: Word | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgInstruction(Instruction):
    """ARG: variables of the build."""

    definitions: tuple[Definition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsInstruction(Instruction):
    """ENV and LABEL.

    Attributes:
        definitions: All with values.
        is_legacy: It was `name value`, without an equals sign.
    """

    definitions: tuple[Definition, ...]
    is_legacy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvInstruction(PairsInstruction):
    """ENV: variables of the build and of containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelInstruction(PairsInstruction):
    """LABEL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInstruction(Instruction):
    """RUN.

    Attributes:
        network: `default`, `none` or `host`.
        security: `sandbox` or `insecure`.
        devices: As they were written.
    """

    command: CommandLine
    mounts: tuple[MountFlag, ...]
    network: str
    security: str
    devices: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CmdInstruction(Instruction):
    """CMD."""

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrypointInstruction(Instruction):
    """ENTRYPOINT."""

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellInstruction(Instruction):
    """SHELL: what runs commands in shell form."""

    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesInstruction(Instruction):
    """COPY and ADD.

    Attributes:
        sources: Paths, patterns or (ADD) addresses.
        heredocs: Sources that the Dockerfile itself holds.
        written_sources: Both in the order in which they were written.
        destination: A file, or a directory when it ends with a slash or is one.
        owner: `--chown`.
        mode: `--chmod`.
        is_link: `--link`: independent of what is below.
        keeps_parents: `--parents`.
        excludes: `--exclude`, patterns as in .dockerignore.
    """

    sources: tuple[Word, ...]
    heredocs: tuple[Heredoc, ...]
    written_sources: tuple[Word, ...]
    destination: Word
    owner: Word | None
    mode: Word | None
    is_link: bool
    keeps_parents: bool
    excludes: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyInstruction(FilesInstruction):
    """COPY.

    Attributes:
        source_stage: `--from`: a stage's name or number, a named context, or an image.
    """

    source_stage: Word | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddInstruction(FilesInstruction):
    """ADD.

    Attributes:
        checksum: What an address's content must have, `sha256:…`.
        keeps_git_directory: `--keep-git-dir`.
        unpacks: `--unpack`; None unpacks archives that are files of the context.
    """

    checksum: Word | None
    keeps_git_directory: bool
    unpacks: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirInstruction(Instruction):
    """WORKDIR."""

    path: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInstruction(Instruction):
    """USER: `user`, `user:group`, by name or number."""

    user: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeInstruction(Instruction):
    """VOLUME."""

    paths: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposeInstruction(Instruction):
    """EXPOSE: `port`, `first-last`, `port/protocol`; one word may expand to several."""

    ports: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthcheckInstruction(Instruction):
    """HEALTHCHECK.

    Attributes:
        command: None for `HEALTHCHECK NONE`.
        interval_nanoseconds: This and the other times are 0 when they were not given.
        retries: 0 when it was not given.
    """

    command: CommandLine | None
    interval_nanoseconds: int
    timeout_nanoseconds: int
    start_period_nanoseconds: int
    start_interval_nanoseconds: int
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignalInstruction(Instruction):
    """STOPSIGNAL: a name or a number."""

    signal: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintainerInstruction(Instruction):
    """MAINTAINER, which a label has replaced."""

    author: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class OnbuildInstruction(Instruction):
    """ONBUILD.

    Attributes:
        trigger: The instruction that a build runs which stands on this image.
        expression: The trigger as the image's configuration holds it, here-documents included.
    """

    trigger: BuildInstruction
    expression: str


BuildInstruction: TypeAlias = (
    ArgInstruction
    | EnvInstruction
    | LabelInstruction
    | RunInstruction
    | CmdInstruction
    | EntrypointInstruction
    | ShellInstruction
    | CopyInstruction
    | AddInstruction
    | WorkdirInstruction
    | UserInstruction
    | VolumeInstruction
    | ExposeInstruction
    | HealthcheckInstruction
    | StopSignalInstruction
    | MaintainerInstruction
    | OnbuildInstruction
)
"""Every instruction that can stand within a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """From one FROM to the next.

    Attributes:
        index: Counted from 0.
        name: In small letters; empty without AS.
    """

    index: int
    name: str
    base: FromInstruction
    instructions: tuple[BuildInstruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A whole file.

    Attributes:
        name: How errors call it.
        directives: `syntax`, `escape` and `check`, as far as they are there.
        escape: What escapes in words: a backslash or a backtick.
        arguments: What stands before the first stage: variables for FROM.
        stages: At least one.
        lines: The file's lines without their ends, for whoever shows what an error is about.
    """

    name: str
    directives: tuple[Directive, ...]
    escape: str
    arguments: tuple[ArgInstruction, ...]
    stages: tuple[Stage, ...]
    lines: tuple[str, ...]

    def directive(self, name: str) -> str:
        """The value of a parser directive; empty when it is not there."""
        return next((each.value.text for each in self.directives if each.name == name), "")
