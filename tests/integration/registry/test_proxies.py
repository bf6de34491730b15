"""Registries behind a proxy, which is all that can reach them."""

import contextlib
import http.client
import select
import socket
import socketserver
import threading

import pytest

from engine.errors import RegistryUnreachableError
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.settings import HostSettings
from tests.integration.registry.conftest import HOST, push_image, quick_settings, read_all
from tests.registries import run_registry

ACCOUNT = "Basic cHJveHk6c2VjcmV0"  # proxy:secret


class Proxy:
    """Passes plain requests on and opens tunnels, to one registry by whatever name."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.asked = []
        owner = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError):
                    while owner.serve(self):
                        pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = False

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    @property
    def address(self):
        return f"http://proxy:secret@127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_exception):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def serve(self, handler):
        line = handler.rfile.readline().split()
        if not line:
            return False
        headers = http.client.parse_headers(handler.rfile)
        self.asked.append((line[0].decode(), line[1].decode(), headers["Proxy-Authorization"]))
        if headers["Proxy-Authorization"] != ACCOUNT:
            handler.wfile.write(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")
            return True
        with socket.create_connection(self.upstream) as beyond:
            if line[0] == b"CONNECT":
                handler.wfile.write(b"HTTP/1.1 200 Open\r\n\r\n")
                splice(handler.connection, beyond)
                return False
            del headers["Proxy-Authorization"]
            headers["Connection"] = "close"
            body = handler.rfile.read(int(headers["Content-Length"] or 0))
            path = b"/" + line[1].split(b"/", 3)[3]
            beyond.sendall(b" ".join((line[0], path, line[2])) + b"\r\n")
            beyond.sendall(
                bytes(headers).rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n\r\n" + body
            )
            while piece := beyond.recv(65_536):
                handler.connection.sendall(piece)
        return False


def splice(one, other):
    """Carry bytes both ways until one side ends."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            piece = ready.recv(65_536)
            if not piece:
                return
            (other if ready is one else one).sendall(piece)


def settings(proxy, name, **environment):
    return quick_settings(
        hosts={name: HostSettings(is_insecure=True)},
        environment={"HTTP_PROXY": proxy.address, "HTTPS_PROXY": proxy.address, **environment},
    )


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_registry_is_reached_through_the_proxy(tmp_path, certificates, is_encrypted):
    with run_registry(
        tmp_path / "registry", certificates=certificates if is_encrypted else None
    ) as registry:
        port = int(registry.address.partition(":")[2])
        name = f"registry.invalid:{port}"
        with (
            Proxy(("127.0.0.1", port)) as proxy,
            RegistryClient(settings(proxy, name)) as client,
        ):
            image = push_image(client, f"{name}/web:1", size=100_000)
            chosen = client.choose(image.name, HOST)
            assert read_all(client.open_blob(image.name, chosen.manifest.layers[0])) == image.layer

    methods = {method for method, _target, _account in proxy.asked}
    assert methods == ({"CONNECT"} if is_encrypted else {"CONNECT", "GET", "POST", "PUT"})
    assert {target for method, target, _ in proxy.asked if method == "CONNECT"} == {name}


def test_a_proxy_that_refuses_is_named_and_not_its_password(tmp_path):
    with run_registry(tmp_path / "registry") as registry:
        port = int(registry.address.partition(":")[2])
        name = f"registry.invalid:{port}"
        with Proxy(("127.0.0.1", port)) as proxy:
            wrong = proxy.address.replace("secret", "hidden")
            made = settings(proxy, name, HTTP_PROXY=wrong, HTTPS_PROXY=wrong)
            with (
                RegistryClient(made) as client,
                pytest.raises(RegistryUnreachableError, match="407") as caught,
            ):
                client.choose(parse_reference(f"{name}/web"), HOST)
    assert "hidden" not in caught.value.message


def test_this_host_is_reached_without_the_proxy(tmp_path, free_port):
    proxy = f"http://127.0.0.1:{free_port}"
    environment = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    with (
        run_registry(tmp_path / "registry") as registry,
        RegistryClient(quick_settings(environment=environment)) as client,
    ):
        push_image(client, f"{registry.address}/web:1", size=1000)
