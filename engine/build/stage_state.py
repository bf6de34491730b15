"""What the instructions of a stage come to, one after the other: configuration, history, steps.

Nothing here depends on what a step does, so a whole stage is known before any of it runs. The rules
are those of BuildKit's frontend (frontend/dockerfile/dockerfile2llb/convert.go).
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

import msgspec

from engine.build import created_by
from engine.build.expansion import Expander
from engine.build.exposed_ports import container_ports
from engine.build.instructions import (
    AddInstruction,
    ArgInstruction,
    CmdInstruction,
    CopyInstruction,
    EntrypointInstruction,
    EnvInstruction,
    ExposeInstruction,
    HealthcheckInstruction,
    LabelInstruction,
    MaintainerInstruction,
    OnbuildInstruction,
    RunInstruction,
    ShellInstruction,
    StopSignalInstruction,
    UserInstruction,
    VolumeInstruction,
    WorkdirInstruction,
)
from engine.build.spans import Source
from engine.build.steps import (
    CopyStep,
    HeredocFile,
    HistoryItem,
    RunStep,
    StepOrigin,
    WorkdirStep,
)
from engine.errors import LimitError
from engine.oci.documents import ConfigSection, Empty, HealthCheckDocument
from engine.runtime.isolation import DEFAULT_PATH, parse_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.build.instructions import (
        BuildInstruction,
        CommandLine,
        Dockerfile,
        Instruction,
    )
    from engine.build.spans import Word
    from engine.build.steps import StageStep

DEFAULT_SHELL = ("/bin/sh", "-c")
PROXY_ARGUMENTS = tuple(
    variant
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for variant in (name, name.lower())
)
"""Known to every stage without a word, and part of neither the history nor the cache."""
SCRIPTS = "/dev/pipes"
"""Where a here-document is that begins with `#!`."""
_HEREDOC_ALONE = re.compile(r"[0-9]*<<-?\s*(\S+)")


class StageState:
    """A stage up to some instruction.

    Attributes:
        config: What the image says so far.
        author: As above.
        history: What the instructions of this stage have added to it.
        steps: What is to be done.
    """

    def __init__(
        self,
        dockerfile: Dockerfile,
        config: ConfigSection,
        *,
        author: str = "",
        variables: Mapping[str, str] | None = None,
        build_arguments: Mapping[str, str],
        global_arguments: Mapping[str, str],
    ) -> None:
        """Begin a stage.

        Args:
            dockerfile: For errors.
            config: Of what it stands on.
            author: As above.
            variables: Of the stage that it stands on; None for an image's.
            build_arguments: What `--build-arg` says.
            global_arguments: What stands before the first FROM, and the platform's.
        """
        self._source = Source(dockerfile.name, list(dockerfile.lines))
        self._escape = dockerfile.escape
        self._build_arguments = build_arguments
        self._global_arguments = global_arguments
        self._declared: dict[str, str | None] = {}
        self._has_command = False
        self.config = config
        self.author = author
        self.variables = dict(variables) if variables is not None else environment_of(config)
        self.variables.setdefault("PATH", DEFAULT_PATH)
        self.history: list[HistoryItem] = []
        self.steps: list[StageStep] = []
        self.used_arguments: set[str] = set()
        self.unset_variables: set[str] = set()
        self._is_trigger = False

    def apply(self, instruction: BuildInstruction, *, is_trigger: bool = False) -> None:
        """Let an instruction have its effect.

        Raises:
            DockerfileError: It makes no sense with the values that its variables have.
        """
        self._is_trigger = is_trigger
        expander = Expander(self._source, dict(self.variables), escape=self._escape)
        match instruction:
            case ArgInstruction():
                self._arg(instruction)
            case EnvInstruction():
                self._env(expander.pairs(instruction))
            case LabelInstruction():
                pairs = expander.pairs(instruction)
                self._change(labels={**(self.config.labels or {}), **dict(pairs)})
                self._note(created_by.label_text(pairs))
            case RunInstruction():
                self._run(instruction, expander)
            case CopyInstruction() | AddInstruction():
                self._copy(instruction, expander.files(instruction))
            case WorkdirInstruction():
                self._workdir(instruction, expander.text(instruction.path))
            case CmdInstruction():
                command = self._command(instruction.command)
                self._has_command = True
                self._change(cmd=command or None, args_escaped=True)
                self._note(created_by.cmd_text(command))
            case EntrypointInstruction():
                self._entrypoint(self._command(instruction.command))
            case ShellInstruction():
                words = tuple(word.text for word in instruction.words)
                self._change(shell=words)
                self._note(created_by.shell_text(words))
            case UserInstruction():
                user = expander.text(instruction.user)
                self._change(user=user)
                self._note(created_by.user_text(user))
            case VolumeInstruction():
                self._volume(tuple(expander.text(word) for word in instruction.paths))
            case ExposeInstruction():
                self._expose(instruction, expander)
            case HealthcheckInstruction():
                self._healthcheck(instruction)
            case StopSignalInstruction():
                self._stop_signal(instruction.signal, expander.text(instruction.signal))
            case MaintainerInstruction():
                # To the letter: the oldest instruction knows neither variables nor quotes.
                self.author = instruction.author.text
                self._note(created_by.maintainer_text(self.author))
            case OnbuildInstruction():
                triggers = (*(self.config.on_build or ()), instruction.expression)
                self._change(on_build=triggers)
        self.unset_variables |= expander.unset

    def clear_triggers(self) -> None:
        """Forget what the base wanted to be done: it has been."""
        if self.config.on_build:
            self._change(on_build=None)

    def set_default_path(self) -> None:
        """Let the configuration say where programs are, as that of nothing at all does."""
        self._change(env=(f"PATH={DEFAULT_PATH}",))

    # --- variables ----------------------------------------------------------------------------

    def _arg(self, instruction: ArgInstruction) -> None:
        pairs: list[tuple[str, str | None]] = []
        for definition in instruction.definitions:
            # From left to right: a default may use what was declared just before it.
            expander = Expander(self._source, self.variables, escape=self._escape)
            name = expander.text(definition.name)
            value: str | None = None
            if name in self._build_arguments:
                value = self._build_arguments[name]
                self.used_arguments.add(name)
            elif definition.value is not None:
                value = expander.text(definition.value)
            elif name in self._global_arguments:
                value = self._global_arguments[name]
            self._declared[name] = value
            if value is not None:
                self.variables[name] = value
            pairs.append((name, value))
        self._note(created_by.arg_text(pairs))

    def _env(self, pairs: tuple[tuple[str, str], ...]) -> None:
        environment = environment_of(self.config)
        environment.update(pairs)
        self.variables.update(pairs)
        self._change(env=tuple(f"{name}={value}" for name, value in environment.items()))
        self._note(created_by.env_text(pairs))

    # --- steps --------------------------------------------------------------------------------

    def _run(self, instruction: RunInstruction, expander: Expander) -> None:
        arguments, scripts = self._run_command(instruction)
        proxies = tuple(
            f"{name}={self._build_arguments[name]}"
            for name in PROXY_ARGUMENTS
            if name in self._build_arguments and name not in self._declared
        )
        declared = [
            (name, self.variables.get(name, value or "")) for name, value in self._declared.items()
        ]
        self.steps.append(
            RunStep(
                origin=self._origin(instruction),
                arguments=arguments,
                environment=tuple(f"{name}={value}" for name, value in self.variables.items()),
                passed_environment=proxies,
                user=self.config.user or "",
                working_directory=self.config.working_dir or "/",
                mounts=tuple(expander.mount(flag) for flag in instruction.mounts),
                scripts=scripts,
                network=instruction.network,
                is_privileged=instruction.security == "insecure",
            )
        )
        self._note(created_by.run_text(arguments, declared), makes_layer=True)

    def _run_command(
        self, instruction: RunInstruction
    ) -> tuple[tuple[str, ...], tuple[HeredocFile, ...]]:
        command = instruction.command
        if command.is_exec:
            return command.arguments, ()
        text = " ".join(command.arguments)
        if not command.heredocs:
            return (*self._shell, text), ()
        first = command.heredocs[0]
        is_script = len(command.heredocs) == 1 and _HEREDOC_ALONE.fullmatch(text.strip())
        if is_script and first.body.startswith("#!"):
            content = first.body.encode("utf-8", "surrogateescape")
            return (f"{SCRIPTS}/{first.name}",), (HeredocFile(name=first.name, content=content),)
        if is_script:
            return (*self._shell, first.body), ()
        bodies = (f"\n{heredoc.raw_body}{heredoc.name}" for heredoc in command.heredocs)
        return (*self._shell, "".join((text, *bodies))), ()

    def _copy(
        self,
        instruction: CopyInstruction | AddInstruction,
        expanded: CopyInstruction | AddInstruction,
    ) -> None:
        source_stage = ""
        if isinstance(expanded, CopyInstruction) and expanded.source_stage is not None:
            source_stage = expanded.source_stage.text
        is_add = isinstance(expanded, AddInstruction)
        directory = self.config.working_dir or "/"
        self.steps.append(
            CopyStep(
                origin=self._origin(instruction),
                is_add=is_add,
                source_stage=source_stage,
                sources=tuple(word.text for word in expanded.sources),
                files=tuple(
                    HeredocFile(
                        name=heredoc.name, content=heredoc.body.encode("utf-8", "surrogateescape")
                    )
                    for heredoc in expanded.heredocs
                ),
                destination=join_path(directory, expanded.destination.text),
                owner=expanded.owner.text if expanded.owner else "",
                mode=expanded.mode.text if expanded.mode else "",
                is_link=expanded.is_link,
                keeps_parents=expanded.keeps_parents,
                excludes=tuple(word.text for word in expanded.excludes),
                unpacks=expanded.unpacks if isinstance(expanded, AddInstruction) else False,
                checksum=expanded.checksum.text
                if isinstance(expanded, AddInstruction) and expanded.checksum
                else "",
                keeps_git_directory=isinstance(expanded, AddInstruction)
                and expanded.keeps_git_directory,
            )
        )
        self._note(created_by.files_text(expanded), makes_layer=True)

    def _workdir(self, instruction: WorkdirInstruction, text: str) -> None:
        path = posixpath.normpath(join_path(self.config.working_dir or "/", text))
        self._change(working_dir=path)
        makes_layer = path != "/"
        if makes_layer:
            origin, user = self._origin(instruction), self.config.user or ""
            self.steps.append(WorkdirStep(origin=origin, path=path, user=user))
        self._note(created_by.workdir_text(path), makes_layer=makes_layer)

    def _origin(self, instruction: Instruction) -> StepOrigin:
        return StepOrigin(
            instruction=instruction, history=len(self.history), is_trigger=self._is_trigger
        )

    # --- configuration ------------------------------------------------------------------------

    @property
    def _shell(self) -> tuple[str, ...]:
        return self.config.shell or DEFAULT_SHELL

    def _command(self, command: CommandLine) -> tuple[str, ...]:
        if command.is_exec:
            return command.arguments
        return (*self._shell, " ".join(command.arguments))

    def _entrypoint(self, entrypoint: tuple[str, ...]) -> None:
        self._change(entrypoint=entrypoint or None)
        if not self._has_command:
            # What the base ran with its own entrypoint means nothing to another one.
            self._change(cmd=None)
        self._note(created_by.entrypoint_text(entrypoint))

    def _volume(self, paths: tuple[str, ...]) -> None:
        self._change(volumes={**(self.config.volumes or {}), **{path: Empty() for path in paths}})
        self._note(created_by.volume_text(paths))

    def _expose(self, instruction: ExposeInstruction, expander: Expander) -> None:
        ports: list[str] = []
        for word in instruction.ports:
            for text in expander.texts(word):
                found = container_ports(text)
                if not found:
                    raise self._source.error(
                        word.span.start,
                        f"invalid containerPort: {text}",
                        expected="8080, 8000-8010 or 53/udp",
                    )
                ports += found
        known = {**(self.config.exposed_ports or {}), **{port: Empty() for port in ports}}
        self._change(exposed_ports=known)
        self._note(created_by.expose_text(ports))

    def _healthcheck(self, instruction: HealthcheckInstruction) -> None:
        command = instruction.command
        test: tuple[str, ...] = ("NONE",)
        if command is not None and command.is_exec:
            test = ("CMD", *command.arguments)
        elif command is not None:
            test = ("CMD-SHELL", " ".join(command.arguments))
        check = HealthCheckDocument(
            test=test,
            interval=instruction.interval_nanoseconds,
            timeout=instruction.timeout_nanoseconds,
            start_period=instruction.start_period_nanoseconds,
            start_interval=instruction.start_interval_nanoseconds,
            retries=instruction.retries,
        )
        self._change(healthcheck=check)
        self._note(
            created_by.healthcheck_text(
                test,
                interval_nanoseconds=check.interval,
                timeout_nanoseconds=check.timeout,
                start_period_nanoseconds=check.start_period,
                start_interval_nanoseconds=check.start_interval,
                retries=check.retries,
            )
        )

    def _stop_signal(self, word: Word, signal: str) -> None:
        try:
            parse_signal(signal)
        except LimitError as error:
            raise self._source.error(
                word.span.start, error.message, expected="SIGTERM, or a number"
            ) from None
        self._change(stop_signal=signal)
        self._note(created_by.stop_signal_text(signal))

    def _change(self, **fields: object) -> None:
        self.config = msgspec.structs.replace(self.config, **fields)

    def _note(self, text: str, *, makes_layer: bool = False) -> None:
        self.history.append(HistoryItem(created_by=text, makes_layer=makes_layer))


def environment_of(config: ConfigSection) -> dict[str, str]:
    """The variables of a configuration, in order."""
    pairs = (entry.partition("=") for entry in config.env or ())
    return {name: value for name, _, value in pairs}


def join_path(directory: str, path: str) -> str:
    """A path from the working directory; a slash at its end stays."""
    joined = path if path.startswith("/") else posixpath.join(directory, path)
    cleaned = posixpath.normpath(joined)
    cleaned = "/" + cleaned.lstrip("/")
    is_directory = path.endswith(("/", "/.")) or path == "."
    return cleaned + "/" if is_directory and cleaned != "/" else cleaned
