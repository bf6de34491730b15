import os

import pytest

from engine.runtime.spec import StateRecord
from engine.runtime.state_file import append_container_event, read_state, write_state


def test_a_state_is_read_as_it_was_written(tmp_path):
    state = StateRecord(status="exited", exit_code=3, warnings=("one", "two"))
    write_state(str(tmp_path), state, is_durable=True)
    assert read_state(str(tmp_path)) == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_container_without_a_state_was_never_started(tmp_path):
    assert read_state(str(tmp_path)) == StateRecord()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"exit_code": "x"}', b"\xff"])
def test_a_damaged_state_is_refused(tmp_path, content):
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011  (the texts are json's)
        read_state(str(tmp_path))


def test_a_disk_that_takes_one_piece_at_a_time_gets_all_of_them(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:5]))
    state = StateRecord(status="running", process_id=7)
    write_state(str(tmp_path), state, is_durable=False)
    assert read_state(str(tmp_path)) == state


def test_a_full_disk_keeps_the_old_state_and_loses_only_the_event(tmp_path, monkeypatch):
    old = StateRecord(status="running", process_id=7)
    write_state(str(tmp_path), old, is_durable=False)

    def refuse(_descriptor, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        write_state(str(tmp_path), StateRecord(status="exited"), is_durable=True)
    append_container_event(
        str(tmp_path / "events.jsonl"), "die", container_id="a", name="web", attributes={}
    )
    assert read_state(str(tmp_path)) == old
    assert {path.name for path in tmp_path.iterdir()} == {"state.json", "events.jsonl"}
