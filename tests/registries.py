"""Real registries on the loopback: Debian's docker-registry, plain, with TLS, passwords, tokens."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.oci.digests import digest_of
from engine.oci.documents import (
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    ConfigSection,
    Descriptor,
    HistoryDocument,
    ImageDocument,
    Manifest,
    RootFsDocument,
    encode_document,
)
from engine.oci.platforms import host_platform
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.settings import RegistrySettings
from engine.snapshots.tar_writer import TarEntry, TarWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER = "somebody"
PASSWORD = "correct horse"
# bcrypt, which is the one that docker-registry takes.
_PASSWORD_LINE = f"{USER}:$2b$04$itvTHXx3K4joqh/oQWH0tOggj.Qbg4xg.3O7U7Q6iieiSySo1PYhK\n"
SERVICE = "lamella tests"
ISSUER = "lamella tests' tokens"


@dataclass(frozen=True)
class LocalRegistry:
    """A registry that runs."""

    address: str
    """`localhost:PORT`."""
    process: subprocess.Popen[str]


@dataclass(frozen=True)
class Certificates:
    """An authority, and a certificate for `localhost` that it signed."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    made = Certificates(directory / "ca.crt", directory / "server.crt", directory / "server.key")
    authority_key = directory / "ca.key"
    extensions = directory / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", *new_key, "-keyout", authority_key, "-out", made.authority,
             "-subj", "/CN=tests", "-days", "2")  # fmt: skip
    _openssl("req", *new_key, "-keyout", made.key, "-out", directory / "request",
             "-subj", "/CN=localhost")  # fmt: skip
    _openssl("x509", "-req", "-in", directory / "request", "-CA", made.authority,
             "-CAkey", authority_key, "-CAcreateserial", "-out", made.certificate,
             "-days", "2", "-extfile", extensions)  # fmt: skip
    return made


def _openssl(*words: object, given: bytes = b"") -> bytes:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    done = subprocess.run(
        ["openssl", *map(str, words)], input=given, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@contextlib.contextmanager
def run_registry(
    directory: Path,
    *,
    certificates: Certificates | None = None,
    has_passwords: bool = False,
    tokens: TokenServer | None = None,
) -> Iterator[LocalRegistry]:
    """Run docker-registry over a directory; its port is one that was free."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed (`make test-tools` installs it)")
    http: dict[str, object] = {"addr": "127.0.0.1:0"}
    auth: dict[str, object] = {}
    directory.mkdir(parents=True, exist_ok=True)
    if certificates is not None:
        http["tls"] = {
            "certificate": str(certificates.certificate),
            "key": str(certificates.key),
        }
    if has_passwords:
        (directory / "htpasswd").write_text(_PASSWORD_LINE)
        auth["htpasswd"] = {"realm": "tests", "path": str(directory / "htpasswd")}
    if tokens is not None:
        auth["token"] = {
            "realm": tokens.realm, "service": SERVICE, "issuer": ISSUER,
            "rootcertbundle": str(tokens.certificates.authority),
        }  # fmt: skip
    document = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}, "level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "data")},
            "delete": {"enabled": True},
        },
        "http": http,
        **({"auth": auth} if auth else {}),
    }
    (directory / "config.yml").write_text(json.dumps(document))
    with subprocess.Popen(
        ["docker-registry", "serve", str(directory / "config.yml")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
    ) as process:
        reader = threading.Thread()
        try:
            port = _port_of(process)
            # It says something of every request: a pipe that nobody empties would stop it.
            reader = threading.Thread(target=_empty, args=(process.stderr,), daemon=True)
            reader.start()
            yield LocalRegistry(address=f"localhost:{port}", process=process)
        finally:
            process.terminate()
            process.wait()
            if reader.ident is not None:
                reader.join()


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "listening on" in line:
            address = line.partition("listening on ")[2].split('"')[0].split(",")[0]
            return int(address.rpartition(":")[2])
    raise AssertionError("docker-registry ended: " + "".join(said)[-2000:])


def _empty(stream: Iterator[str] | None) -> None:
    for _line in stream or ():
        pass


class TokenServer:
    """Gives tokens to who knows the password, as Docker's documents have it; signs with openssl."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates
        self.life_seconds = 300
        self.lets_anybody_read = False
        self.requests: list[dict[str, list[str]]] = []
        self.identity_token = ""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner._answer(self, parse_qs(urlsplit(self.path).query))

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                owner._answer(self, parse_qs(self.rfile.read(length).decode()))

            def log_message(self, *_words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def realm(self) -> str:
        return f"http://localhost:{self._server.server_port}/token"

    @contextlib.contextmanager
    def running(self) -> Iterator[TokenServer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        self.requests.append(query)
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        is_known = handler.headers.get("Authorization") == f"Basic {expected}" or (
            bool(self.identity_token) and query.get("refresh_token") == [self.identity_token]
        )
        is_anonymous = not handler.headers.get("Authorization") and "refresh_token" not in query
        handler.close_connection = True
        if not is_known and not (is_anonymous and self.lets_anybody_read):
            handler.send_response(401)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        scopes = " ".join(query.get("scope", [])).split()
        answer: dict[str, object] = {
            "token": self.sign(scopes, may_write=is_known),
            "expires_in": self.life_seconds,
        }
        if self.identity_token and query.get("offline_token") == ["true"]:
            answer["refresh_token"] = self.identity_token
        content = json.dumps(answer).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def sign(self, scopes: list[str], *, may_write: bool) -> str:
        """A token for scopes such as `repository:web:pull,push`."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = [one for one in actions.split(",") if may_write or one == "pull"]
            access.append({"type": kind, "name": name, "actions": allowed})
        pem = self.certificates.certificate.read_text()
        body = "".join(pem.split("-----")[2].split())
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": [body]}
        claims = {
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "nbf": now - 60, "iat": now,
            "exp": now + self.life_seconds, "jti": str(time.monotonic_ns()), "access": access,
        }  # fmt: skip
        signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
        signature = _openssl(
            "dgst", "-sha256", "-sign", self.certificates.key, given=signed.encode()
        )
        return f"{signed}.{_encoded(_raw_signature(signature))}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _raw_signature(signature: bytes) -> bytes:
    """The two numbers of an ECDSA signature, 32 bytes each, out of their ASN.1 shell."""
    numbers = []
    position = 2
    for _ in range(2):
        length = signature[position + 1]
        number = signature[position + 2 : position + 2 + length]
        numbers.append(number.lstrip(b"\0").rjust(32, b"\0"))
        position += 2 + length
    return b"".join(numbers)


def push_files(
    name: str,
    *layers: dict[str, bytes],
    instructions: tuple[str, ...] = (),
    silence_seconds: float = 30.0,
) -> str:
    """Push an image of files, gzipped as images are, by our own client; returns its id.

    `instructions` are what made the layers, for its history.
    """
    descriptors, diff_ids = [], []
    with RegistryClient(RegistrySettings(silence_seconds=silence_seconds)) as client:
        reference = parse_reference(name)
        for files in layers:
            target = io.BytesIO()
            writer = TarWriter(target, modified_at=0)
            for path, content in files.items():
                writer.add(TarEntry(path=path, mode=stat.S_IFREG | 0o644, content=content))
            writer.close()
            tar = target.getvalue()
            diff_ids.append(digest_of(tar))
            blob = gzip.compress(tar, 1, mtime=0)
            descriptors.append(
                Descriptor(media_type=OCI_LAYER_GZIP, digest=digest_of(blob), size=len(blob))
            )
            client.upload_blob(reference, _Content(blob), digest=digest_of(blob))
        platform = host_platform()
        config = encode_document(
            ImageDocument(
                architecture=platform.architecture,
                os=platform.os,
                config=ConfigSection(cmd=("/none",)),
                rootfs=RootFsDocument(type="layers", diff_ids=tuple(diff_ids)),
                history=tuple(HistoryDocument(created_by=text) for text in instructions) or None,
            )
        )
        client.upload_blob(reference, _Content(config), digest=digest_of(config))
        manifest = Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config)),
            layers=tuple(descriptors),
        )
        client.put_manifest(
            reference,
            tag_or_digest=reference.tag or "latest",
            media_type=OCI_MANIFEST,
            content=encode_document(manifest),
        )
    return digest_of(config)


class _Content:
    """A blob in memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.content)
