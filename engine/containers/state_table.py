"""Which operation is legal in which state, what it leads to, and what an illegal one is told.

The rules, the order of the events and the texts are Docker's (moby daemon/container/state.go,
start.go, stop.go, kill.go, pause.go, delete.go, errors.go). Every pair of state and operation
has an entry; a test counts them.
"""

from __future__ import annotations

from enum import StrEnum

from engine.errors import ContainerStateError
from engine.late_dataclasses import dataclass
from engine.types import ContainerStatus


class Operation(StrEnum):
    """What can be asked of a container, and the one thing that it does by itself (exit)."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    KILL = "kill"
    RESTART = "restart"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    REMOVE = "rm"
    FORCE_REMOVE = "rm -f"
    EXIT = "exit"
    EXEC = "exec"
    ATTACH = "attach"
    RENAME = "rename"
    UPDATE = "update"
    COMMIT = "commit"
    COPY = "cp"
    EXPORT = "export"
    WAIT = "wait"
    TOP = "top"
    LOGS = "logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A legal operation.

    Attributes:
        target: The state afterwards; None when the container is gone. A signal that the program
            survives (kill) leaves the state as it was.
        events: What is told to the world, in order.
    """

    target: ContainerStatus | None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An operation that is not legal in a state.

    Attributes:
        message: Docker's text, with `{id}` and `{name}` to fill in.
        is_already_done: The container is already what was asked for (Docker answers 304).
        hint: What to do instead.
    """

    message: str
    is_already_done: bool = False
    hint: str = ""


Rule = Transition | Refusal

_CREATED = ContainerStatus.CREATED
_RUNNING = ContainerStatus.RUNNING
_PAUSED = ContainerStatus.PAUSED
_RESTARTING = ContainerStatus.RESTARTING
_REMOVING = ContainerStatus.REMOVING
_EXITED = ContainerStatus.EXITED
_DEAD = ContainerStatus.DEAD

_KILLED = ("kill", "die")
_STOPPED = ("kill", "die", "stop")

_NOT_RUNNING = Refusal(
    message="container {id} is not running", hint="`lamella start {name}` starts it"
)
_IS_RESTARTING = Refusal(
    message="Container {id} is restarting, wait until the container is running"
)
_CANNOT_ATTACH = Refusal(
    message="You cannot attach to a stopped container, start it first",
    hint="`lamella start -ai {name}` does both",
)
_NOT_PAUSED = Refusal(message="Container {id} is not paused")
_ALREADY_STOPPED = Refusal(message="container is already stopped", is_already_done=True)
_ALREADY_RUNNING = Refusal(message="container is already running", is_already_done=True)
_MARKED_FOR_REMOVAL = Refusal(
    message="container is marked for removal and cannot be started",
    hint="`lamella rm -f {name}` tries the removal again",
)
_CANNOT_RESTART = Refusal(
    message="Cannot restart container {name}: container is marked for removal and cannot be "
    "started",
    hint="`lamella rm -f {name}` tries the removal again",
)
_REMOVAL_IN_PROGRESS = Refusal(
    message="removal of container {name} is already in progress", is_already_done=True
)
_NAME_CONFLICT = Refusal(
    message='Conflict. The container name "/{name}" is already in use by container "{id}". You '
    "have to remove (or rename) that container to be able to reuse that name.",
    hint="`lamella rm {name}` removes it, `--name` chooses another name",
)
_CANNOT_UPDATE = Refusal(message='Container is marked for removal and cannot be "update".')
_CANNOT_COPY = Refusal(
    message="container {name} is marked for removal and its files cannot be copied"
)
_NO_LOGS = Refusal(message="can not get logs from container which is dead or marked for removal")


def _cannot_remove(reason: str, hint: str) -> Refusal:
    return Refusal(message=f'cannot remove container "{{name}}": container is {reason}', hint=hint)


def _unchanged(*events: str) -> dict[ContainerStatus, Rule]:
    return {status: Transition(target=status, events=events) for status in ContainerStatus}


TABLE: dict[Operation, dict[ContainerStatus, Rule]] = {
    # A name belongs to its container in every state.
    Operation.CREATE: dict.fromkeys(ContainerStatus, _NAME_CONFLICT),
    Operation.START: {
        _CREATED: Transition(target=_RUNNING, events=("start",)),
        _EXITED: Transition(target=_RUNNING, events=("start",)),
        _RUNNING: _ALREADY_RUNNING,
        _RESTARTING: _ALREADY_RUNNING,
        _PAUSED: Refusal(
            message="cannot start a paused container, try unpause instead",
            hint="`lamella unpause {name}` lets it go on",
        ),
        _REMOVING: _MARKED_FOR_REMOVAL,
        _DEAD: _MARKED_FOR_REMOVAL,
    },
    Operation.STOP: {
        _RUNNING: Transition(target=_EXITED, events=_STOPPED),
        _PAUSED: Transition(target=_EXITED, events=_STOPPED),
        # There is no process now; the next start is called off.
        _RESTARTING: Transition(target=_EXITED, events=("stop",)),
        _CREATED: _ALREADY_STOPPED,
        _EXITED: _ALREADY_STOPPED,
        _REMOVING: _ALREADY_STOPPED,
        _DEAD: _ALREADY_STOPPED,
    },
    Operation.KILL: {
        _RUNNING: Transition(target=_EXITED, events=_KILLED),
        _PAUSED: Transition(target=_EXITED, events=_KILLED),
        _RESTARTING: Transition(target=_EXITED, events=("stop",)),
        _CREATED: _NOT_RUNNING,
        _EXITED: _NOT_RUNNING,
        _REMOVING: _NOT_RUNNING,
        _DEAD: _NOT_RUNNING,
    },
    Operation.RESTART: {
        _CREATED: Transition(target=_RUNNING, events=("start", "restart")),
        _EXITED: Transition(target=_RUNNING, events=("start", "restart")),
        _RUNNING: Transition(target=_RUNNING, events=(*_STOPPED, "start", "restart")),
        _PAUSED: Transition(target=_RUNNING, events=(*_STOPPED, "start", "restart")),
        _RESTARTING: Transition(target=_RUNNING, events=("stop", "start", "restart")),
        _REMOVING: _CANNOT_RESTART,
        _DEAD: _CANNOT_RESTART,
    },
    Operation.PAUSE: {
        _RUNNING: Transition(target=_PAUSED, events=("pause",)),
        _PAUSED: Refusal(message="container {id} is already paused", is_already_done=True),
        _RESTARTING: _IS_RESTARTING,
        _CREATED: _NOT_RUNNING,
        _EXITED: _NOT_RUNNING,
        _REMOVING: _NOT_RUNNING,
        _DEAD: _NOT_RUNNING,
    },
    Operation.UNPAUSE: {
        **dict.fromkeys(ContainerStatus, _NOT_PAUSED),
        _PAUSED: Transition(target=_RUNNING, events=("unpause",)),
    },
    Operation.REMOVE: {
        _CREATED: Transition(target=None, events=("destroy",)),
        _EXITED: Transition(target=None, events=("destroy",)),
        _DEAD: Transition(target=None, events=("destroy",)),
        _RUNNING: _cannot_remove(
            "running: stop the container before removing or force remove",
            "`lamella rm -f {name}` kills and removes it",
        ),
        _RESTARTING: _cannot_remove(
            "restarting: stop the container before removing or force remove",
            "`lamella rm -f {name}` kills and removes it",
        ),
        _PAUSED: _cannot_remove(
            "paused and must be unpaused first", "`lamella rm -f {name}` kills and removes it"
        ),
        _REMOVING: _REMOVAL_IN_PROGRESS,
    },
    Operation.FORCE_REMOVE: {
        _CREATED: Transition(target=None, events=("destroy",)),
        _EXITED: Transition(target=None, events=("destroy",)),
        _DEAD: Transition(target=None, events=("destroy",)),
        _RUNNING: Transition(target=None, events=(*_KILLED, "destroy")),
        _PAUSED: Transition(target=None, events=(*_KILLED, "destroy")),
        _RESTARTING: Transition(target=None, events=("stop", "destroy")),
        _REMOVING: _REMOVAL_IN_PROGRESS,
    },
    Operation.EXIT: {
        _RUNNING: Transition(target=_EXITED, events=("die",)),
        _PAUSED: Transition(target=_EXITED, events=("die",)),
        _RESTARTING: Transition(target=_EXITED, events=("die",)),
        # An end that was already written down is not told twice.
        _CREATED: _ALREADY_STOPPED,
        _EXITED: _ALREADY_STOPPED,
        _REMOVING: _ALREADY_STOPPED,
        _DEAD: _ALREADY_STOPPED,
    },
    Operation.ATTACH: {
        **dict.fromkeys(ContainerStatus, _CANNOT_ATTACH),
        _RUNNING: Transition(target=_RUNNING, events=("attach",)),
        _PAUSED: Refusal(
            message="You cannot attach to a paused container, unpause it first",
            hint="`lamella unpause {name}` lets it go on",
        ),
        _RESTARTING: Refusal(
            message="You cannot attach to a restarting container, wait until it is running"
        ),
    },
    Operation.EXEC: {
        _RUNNING: Transition(target=_RUNNING, events=("exec_create", "exec_start", "exec_die")),
        _PAUSED: Refusal(
            message="Container {id} is paused, unpause the container before exec",
            hint="`lamella unpause {name}` lets it go on",
        ),
        _RESTARTING: _IS_RESTARTING,
        _CREATED: _NOT_RUNNING,
        _EXITED: _NOT_RUNNING,
        _REMOVING: _NOT_RUNNING,
        _DEAD: _NOT_RUNNING,
    },
    Operation.RENAME: _unchanged("rename"),
    Operation.UPDATE: {
        **_unchanged("update"),
        _REMOVING: _CANNOT_UPDATE,
        _DEAD: _CANNOT_UPDATE,
    },
    Operation.COMMIT: {
        **_unchanged("commit"),
        _REMOVING: Refusal(message="You cannot commit container {id} which is being removed"),
        _DEAD: Refusal(message="You cannot commit container {id} which is Dead"),
    },
    Operation.COPY: {
        **_unchanged(),
        # Its root would be mounted twice when it comes back.
        _RESTARTING: _IS_RESTARTING,
        _REMOVING: _CANNOT_COPY,
        _DEAD: _CANNOT_COPY,
    },
    Operation.EXPORT: {
        **_unchanged("export"),
        _REMOVING: Refusal(message="You cannot export container {id} which is being removed"),
        _DEAD: Refusal(message="You cannot export container {id} which is Dead"),
    },
    Operation.WAIT: _unchanged(),
    Operation.TOP: {
        _RUNNING: Transition(target=_RUNNING, events=("top",)),
        _PAUSED: Transition(target=_PAUSED, events=("top",)),
        _RESTARTING: _IS_RESTARTING,
        _CREATED: _NOT_RUNNING,
        _EXITED: _NOT_RUNNING,
        _REMOVING: _NOT_RUNNING,
        _DEAD: _NOT_RUNNING,
    },
    Operation.LOGS: {**_unchanged(), _REMOVING: _NO_LOGS, _DEAD: _NO_LOGS},
}


def check(
    operation: Operation, status: ContainerStatus, *, container_id: str, name: str
) -> Transition:
    """Return what an operation leads to in a state.

    Raises:
        ContainerStateError: It is not legal there; the text is Docker's.
    """
    rule = TABLE[operation][status]
    if isinstance(rule, Transition):
        return rule
    raise ContainerStateError(
        rule.message.format(id=container_id, name=name),
        container_id=container_id,
        status=status.value,
        operation=operation.value,
        is_already_done=rule.is_already_done,
        hint=rule.hint.format(id=container_id, name=name),
    )
