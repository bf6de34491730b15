"""The state table: complete, and with Docker's texts."""

import pytest

from engine.containers.state_table import TABLE, Operation, Refusal, Transition, check
from engine.errors import ContainerStateError
from engine.types import ContainerStatus

ID = "a" * 64

STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
GONE = "gone"
NOT_ATTACHED = "You cannot attach to a stopped container, start it first"
NOT_RUNNING = f"container {ID} is not running"
RESTARTING = f"Container {ID} is restarting, wait until the container is running"
NOT_PAUSED = f"Container {ID} is not paused"
STOPPED = "304 container is already stopped"
RUNNING = "304 container is already running"
MARKED = "container is marked for removal and cannot be started"
IN_PROGRESS = "304 removal of container web is already in progress"
TAKEN = (
    f'Conflict. The container name "/web" is already in use by container "{ID}". You have to '
    "remove (or rename) that container to be able to reuse that name."
)
REMOVE_RUNNING = (
    'cannot remove container "web": container is running: stop the container before removing or '
    "force remove"
)
REMOVE_RESTARTING = REMOVE_RUNNING.replace("is running", "is restarting")
REMOVE_PAUSED = 'cannot remove container "web": container is paused and must be unpaused first'
NO_RESTART = f"Cannot restart container web: {MARKED}"
NO_UPDATE = 'Container is marked for removal and cannot be "update".'
NO_COPY = "container web is marked for removal and its files cannot be copied"
NO_LOGS = "can not get logs from container which is dead or marked for removal"
STOP_EVENTS = "exited: kill die stop"
AGAIN = "running: kill die stop start restart"

# operation: the outcome in each of STATES, in order. `target: events`, or the error's text
# (with 304 in front where there is nothing left to do).
EXPECTED = {
    "create": (TAKEN,) * 7,
    "start": (
        "running: start",
        RUNNING,
        "cannot start a paused container, try unpause instead",
        RUNNING,
        MARKED,
        "running: start",
        MARKED,
    ),
    "stop": (STOPPED, STOP_EVENTS, STOP_EVENTS, "exited: stop", STOPPED, STOPPED, STOPPED),
    "kill": (
        NOT_RUNNING,
        "exited: kill die",
        "exited: kill die",
        "exited: stop",
        NOT_RUNNING,
        NOT_RUNNING,
        NOT_RUNNING,
    ),
    "restart": (
        "running: start restart",
        AGAIN,
        AGAIN,
        "running: stop start restart",
        NO_RESTART,
        "running: start restart",
        NO_RESTART,
    ),
    "pause": (
        NOT_RUNNING,
        "paused: pause",
        f"304 container {ID} is already paused",
        RESTARTING,
        NOT_RUNNING,
        NOT_RUNNING,
        NOT_RUNNING,
    ),
    "unpause": (
        NOT_PAUSED,
        NOT_PAUSED,
        "running: unpause",
        NOT_PAUSED,
        NOT_PAUSED,
        NOT_PAUSED,
        NOT_PAUSED,
    ),
    "rm": (
        "gone: destroy",
        REMOVE_RUNNING,
        REMOVE_PAUSED,
        REMOVE_RESTARTING,
        IN_PROGRESS,
        "gone: destroy",
        "gone: destroy",
    ),
    "rm -f": (
        "gone: destroy",
        "gone: kill die destroy",
        "gone: kill die destroy",
        "gone: stop destroy",
        IN_PROGRESS,
        "gone: destroy",
        "gone: destroy",
    ),
    "exit": (STOPPED, "exited: die", "exited: die", "exited: die", STOPPED, STOPPED, STOPPED),
    "exec": (
        NOT_RUNNING,
        "running: exec_create exec_start exec_die",
        f"Container {ID} is paused, unpause the container before exec",
        RESTARTING,
        NOT_RUNNING,
        NOT_RUNNING,
        NOT_RUNNING,
    ),
    "attach": (
        NOT_ATTACHED,
        "running: attach",
        "You cannot attach to a paused container, unpause it first",
        "You cannot attach to a restarting container, wait until it is running",
        NOT_ATTACHED,
        NOT_ATTACHED,
        NOT_ATTACHED,
    ),
    "rename": tuple(f"{state}: rename" for state in STATES),
    "update": (
        "created: update",
        "running: update",
        "paused: update",
        "restarting: update",
        NO_UPDATE,
        "exited: update",
        NO_UPDATE,
    ),
    "commit": (
        "created: commit",
        "running: commit",
        "paused: commit",
        "restarting: commit",
        f"You cannot commit container {ID} which is being removed",
        "exited: commit",
        f"You cannot commit container {ID} which is Dead",
    ),
    "cp": (
        "created:",
        "running:",
        "paused:",
        RESTARTING,
        NO_COPY,
        "exited:",
        NO_COPY,
    ),
    "export": (
        "created: export",
        "running: export",
        "paused: export",
        "restarting: export",
        f"You cannot export container {ID} which is being removed",
        "exited: export",
        f"You cannot export container {ID} which is Dead",
    ),
    "wait": tuple(f"{state}:" for state in STATES),
    "top": (
        NOT_RUNNING,
        "running: top",
        "paused: top",
        RESTARTING,
        NOT_RUNNING,
        NOT_RUNNING,
        NOT_RUNNING,
    ),
    "logs": (
        "created:",
        "running:",
        "paused:",
        "restarting:",
        NO_LOGS,
        "exited:",
        NO_LOGS,
    ),
}


def outcome(operation: Operation, status: ContainerStatus) -> str:
    try:
        transition = check(operation, status, container_id=ID, name="web")
    except ContainerStateError as error:
        return f"304 {error}" if error.is_already_done else str(error)
    target = GONE if transition.target is None else transition.target.value
    return f"{target}: {' '.join(transition.events)}".rstrip()


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("status", list(ContainerStatus))
def test_every_pair_of_state_and_operation_has_the_documented_outcome(operation, status):
    assert outcome(operation, status) == EXPECTED[operation.value][STATES.index(status.value)]


def test_the_table_has_every_state_for_every_operation():
    assert set(TABLE) == set(Operation)
    assert all(set(rules) == set(ContainerStatus) for rules in TABLE.values())


def test_a_refusal_carries_its_facts():
    with pytest.raises(ContainerStateError) as caught:
        check(Operation.REMOVE, ContainerStatus.RUNNING, container_id=ID, name="web")
    error = caught.value
    assert (error.container_id, error.status, error.operation) == (ID, "running", "rm")
    assert error.hint == "`lamella rm -f web` kills and removes it"


def test_a_name_with_braces_cannot_change_a_text():
    with pytest.raises(ContainerStateError, match=r"\{id\}"):
        check(Operation.REMOVE, ContainerStatus.RUNNING, container_id=ID, name="{id}")


def test_a_state_is_left_only_by_operations_that_say_so():
    quiet = {Operation.RENAME, Operation.UPDATE, Operation.COMMIT, Operation.WAIT, Operation.TOP}
    for operation in quiet:
        for status, rule in TABLE[operation].items():
            assert isinstance(rule, Refusal) or rule == Transition(
                target=status, events=rule.events
            )
