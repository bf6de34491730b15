"""Records and errors keep their meaning on the way between processes."""

from __future__ import annotations

import socket

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cgroups.limits import CgroupSpec, DeviceRule
from engine.errors import (
    ContainerStateError,
    EngineError,
    ProcessError,
    StartError,
    SyscallError,
)
from engine.runtime.protocol import (
    FrameKind,
    describe_error,
    read_error,
    receive_frame,
    restore_error,
    send_error,
    send_frame,
)
from engine.runtime.records import decode_record, encode_record
from engine.runtime.spec import StateRecord

states = st.builds(
    StateRecord,
    status=st.text(max_size=10),
    process_id=st.integers(0, 2**22),
    exit_code=st.integers(-1, 255),
    error=st.text(max_size=30),
    is_out_of_memory_killed=st.booleans(),
    cgroup_paths=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)


@given(states)
def test_a_record_comes_back_as_it_was(state: StateRecord) -> None:
    assert decode_record(StateRecord, encode_record(state)) == state
    assert msgspec.json.decode(encode_record(state), type=StateRecord) == state


def test_nested_records_and_missing_values_come_back() -> None:
    spec = CgroupSpec(
        name="x",
        memory_bytes=None,
        pids=5,
        device_rules=(DeviceRule(kind="c", major=1, minor=-1, access="rw"),),
    )
    assert decode_record(CgroupSpec, encode_record(spec)) == spec


def test_fields_of_a_newer_version_are_passed_over_and_missing_ones_take_their_default() -> None:
    state = decode_record(StateRecord, b'{"status": "paused", "from_the_future": [1]}')
    assert state == StateRecord(status="paused")


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b'{"status": 1}', b'{"process_id": "1"}', b'{"cgroup_paths": "x"}', b"{", b"null"],
)
def test_a_damaged_record_is_a_value_error(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode_record(StateRecord, document)


@pytest.mark.parametrize(
    "error",
    [
        StartError("exec: no", exit_code=127, step="exec", hint="do this"),
        SyscallError("mount", 1, "overlay"),
        ContainerStateError("is not running", container_id="x", status="exited", operation="kill"),
    ],
)
def test_an_error_arrives_as_what_it_was(error: EngineError) -> None:
    arrived = restore_error(describe_error(error))
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)
    assert str(arrived) == str(error)


def test_an_unknown_kind_of_error_keeps_its_text() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_error(ours, RuntimeError("odd"))
        frame = receive_frame(theirs)
    assert frame is not None
    error = read_error(frame[1])
    assert type(error) is ProcessError
    assert error.message == "RuntimeError: odd"


def test_frames_carry_descriptors_and_end_with_none() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            send_frame(ours, FrameKind.JOB, b"x" * 70000, (ours.fileno(),))
            received = receive_frame(theirs)
        assert received is not None
        kind, payload, descriptors = received
        assert (kind, len(payload), len(descriptors)) == (FrameKind.JOB, 70000, 1)
        socket.socket(fileno=descriptors[0]).close()
        assert receive_frame(theirs) is None
