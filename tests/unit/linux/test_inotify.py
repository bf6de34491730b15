import os
import threading

import pytest

from engine.linux.inotify import IN_CREATE, Inotify


def test_what_was_watched_is_told_once(tmp_path):
    inotify = Inotify()
    watch = inotify.watch(tmp_path, IN_CREATE)
    (tmp_path / "new").touch()

    assert [(event.watch, event.name) for event in inotify.read()] == [(watch, b"new")]
    assert inotify.read() == ()
    inotify.close()


def test_a_watch_is_closed_by_a_thread_where_nobody_must_wait(tmp_path):
    inotify = Inotify()
    inotify.watch(tmp_path, IN_CREATE)
    descriptor = inotify.descriptor
    inotify.close_soon()
    for thread in threading.enumerate():
        if thread.name == "lamella-inotify":
            thread.join()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    inotify.close_soon()
    inotify.close()
