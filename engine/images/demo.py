"""The demo: three layers on top of the starter image, and three containers worth watching."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.images.layout import MadeLayer, write_layout
from engine.images.starter import starter_image
from engine.snapshots.tar_writer import TarEntry
from engine.types import ContainerRequest

if TYPE_CHECKING:
    from pathlib import Path

DEMO_NAME = "demo:latest"

_PAGE = "<html><body><h1>It works</h1><p>Served from layer {layer}.</p></body></html>\n"

_SERVER = """#!/bin/sh
# Logs like a web server: one line a request, errors to standard error.
trap 'echo "shutting down: signal received"; exit 0' TERM INT
echo "listening on port 80, serving /srv/site"
count=0
while :; do
  count=$((count + 1))
  case $((count % 10)) in
    0) echo "[error] 404 /missing-$count.html: no such file in /srv/site" >&2 ;;
    3) echo "192.0.2.$((count % 250 + 1)) POST /api/orders 201 $((count % 90 + 10)) ms" ;;
    7) echo "192.0.2.$((count % 250 + 1)) GET /style.css 304 1 ms" ;;
    *) echo "192.0.2.$((count % 250 + 1)) GET /index.html 200 $((count % 40 + 2)) ms" ;;
  esac
  sleep 0.4 &
  wait $!
done
"""

_WORKER = """#!/bin/sh
# Changes its writable layer all the time: look at its files.
trap 'echo "worker stops after $round rounds"; exit 0' TERM INT
mkdir -p /data/done
rm -f /srv/site/old.html
round=0
while :; do
  round=$((round + 1))
  echo "round $round" >>/data/journal.txt
  echo "result of round $round" >"/data/done/result-$((round % 20)).txt"
  [ $((round % 7)) -eq 0 ] && rm -f "/data/done/result-$((round % 13)).txt"
  echo "round $round: wrote /data/done/result-$((round % 20)).txt"
  sleep 1 &
  wait $!
done
"""

_FAILING = """#!/bin/sh
# Ends with an error, as programs do.
echo "reading /etc/app.conf"
echo "connecting to database at 192.0.2.10:5432"
echo "[fatal] cannot connect to the database: connection refused" >&2
exit 3
"""


def _directory(path: str) -> TarEntry:
    return TarEntry(path=path, mode=stat.S_IFDIR | 0o755)


def _file(path: str, content: str, mode: int = 0o644) -> TarEntry:
    return TarEntry(path=path, mode=stat.S_IFREG | mode, content=content.encode())


_LAYERS = (
    MadeLayer(
        created_by="COPY site /srv/site",
        entries=(
            _directory("srv"),
            _directory("srv/site"),
            _file("srv/site/index.html", _PAGE.format(layer="COPY site")),
            _file("srv/site/old.html", _PAGE.format(layer="COPY site") * 40),
            _file("srv/site/draft.html", "not ready\n" * 200),
            _file("srv/site/style.css", "body { font-family: sans-serif }\n" * 30),
        ),
    ),
    MadeLayer(
        created_by="COPY server.sh worker.sh failing.sh /usr/local/bin/",
        entries=(
            _directory("usr/local"),
            _directory("usr/local/bin"),
            _file("usr/local/bin/server.sh", _SERVER, 0o755),
            _file("usr/local/bin/worker.sh", _WORKER, 0o755),
            _file("usr/local/bin/failing.sh", _FAILING, 0o755),
        ),
    ),
    MadeLayer(
        created_by="RUN rm draft.html && edit index.html && touch /etc/app.conf",
        entries=(
            _directory("etc"),
            _file("etc/app.conf", "database = 192.0.2.10:5432\n"),
            _directory("srv"),
            _directory("srv/site"),
            # A whiteout (OCI image-spec, layer.md): the file of the layer below is gone.
            _file("srv/site/.wh.draft.html", ""),
            _file("srv/site/index.html", _PAGE.format(layer="RUN edit") * 2),
        ),
    ),
)


def write_demo_layout(directory: Path) -> None:
    """Write the starter image and the demo on top of it as an OCI layout; blocking.

    Raises:
        FeatureUnavailableError: The host has no usable shell.
        OSError: A file cannot be read, or the layout not be written.
    """
    starter = starter_image()
    demo = replace(
        starter,
        name=DEMO_NAME,
        layers=(*starter.layers, *_LAYERS),
        config=type(starter.config)(
            env=starter.config.env,
            cmd=("/usr/local/bin/server.sh",),
            working_dir="/srv/site",
            labels={"org.opencontainers.image.title": "Lamella demo"},
            stop_signal="SIGTERM",
        ),
        empty_steps=("WORKDIR /srv/site", 'CMD ["/usr/local/bin/server.sh"]'),
    )
    write_layout(directory, [starter, demo])


def demo_requests() -> tuple[ContainerRequest, ...]:
    """The containers to start: one that logs, one that writes, one that fails."""
    return tuple(
        ContainerRequest(
            image=DEMO_NAME, name=f"demo-{name}", command=(f"/usr/local/bin/{script}.sh",)
        )
        for name, script in (("web", "server"), ("worker", "worker"), ("failing", "failing"))
    )
