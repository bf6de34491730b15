"""What is under way in a client ends when it is told to, whatever it waits for."""

import socket
import threading
import time

import pytest

from engine.oci.reference import parse_reference
from engine.operations import CancelledRead
from engine.registry.client import RegistryClient
from engine.registry.settings import RetryPolicy
from tests.fault_proxy import Fault
from tests.integration.registry.conftest import (
    HOST,
    is_blob,
    quick_settings,
    read_all,
)


def test_what_is_under_way_ends_when_it_is_cancelled(proxy, pushed, client):
    has_begun = threading.Event()

    def plan(request):
        if is_blob(request):
            has_begun.set()
            return Fault(stalls_at=1000)
        return None

    proxy.plan = plan
    ends: list[BaseException] = []

    def work():
        try:
            read_all(client.open_blob(pushed.name, pushed.layer_descriptor))
        except CancelledRead as error:
            ends.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert has_begun.wait(20)
    before = time.monotonic()
    client.cancel()
    for thread in threads:
        thread.join(20)

    assert len(ends) == 3
    # The connection would have been given up after 20 seconds of silence.
    assert time.monotonic() - before < 19
    with pytest.raises(CancelledRead):
        client.choose(pushed.name, HOST)


def test_a_wait_ends_when_it_is_cancelled(proxy, pushed):
    proxy.plan = lambda request: (
        Fault(status=503, headers={"Retry-After": "100"}) if "/manifests" in request.path else None
    )
    with RegistryClient(quick_settings(retry=RetryPolicy())) as client:
        failures: list[BaseException] = []

        def work():
            try:
                client.choose(pushed.name, HOST)
            except CancelledRead as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while not [one for one in proxy.requests if "/manifests" in one.path]:
            time.sleep(0)
        client.cancel()
        thread.join(50)
        assert failures


def test_a_host_whose_name_is_never_found_out_can_be_given_up(client, monkeypatch):
    is_asked, may_answer = threading.Event(), threading.Event()

    def look_up(*_words, **_options):
        is_asked.set()
        may_answer.wait(60)
        raise OSError("no answer")

    monkeypatch.setattr("engine.registry.connections.socket.getaddrinfo", look_up)
    ends: list[BaseException] = []

    def work():
        try:
            client.choose(parse_reference("registry.example/web"), HOST)
        except CancelledRead as error:
            ends.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert is_asked.wait(20)
    client.cancel()
    thread.join(20)
    may_answer.set()
    assert ends


def test_a_connection_that_nobody_takes_can_be_given_up(client):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        address = busy.getsockname()
        # The queue of who waits is full: the next one hears nothing.
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            has_begun = threading.Event()
            ends: list[BaseException] = []

            def work():
                has_begun.set()
                try:
                    client.choose(parse_reference(f"localhost:{address[1]}/web"), HOST)
                except CancelledRead as error:
                    ends.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            assert has_begun.wait(20)
            client.cancel()
            # Nobody would answer for 15 seconds, and then it would be tried again.
            thread.join(14)
            assert ends
        finally:
            for one in waiting:
                one.close()
