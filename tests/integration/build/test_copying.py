"""COPY, ADD and WORKDIR in builds that run nothing: what the image has afterwards."""

import asyncio
import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading

import pytest

from engine.errors import BuildStepError, EngineError
from engine.types import BuildRequest, NamedContext

pytestmark = pytest.mark.root


def archive(**contents):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as target:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.uid, info.gid, info.mtime = 3, 4, 7
            target.addfile(info, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def context(tmp_path):
    path = tmp_path / "context"
    path.mkdir()
    (path / "a").write_text("one")
    (path / "d").mkdir()
    (path / "d/b").write_text("two")
    return path


async def build(engine, context, *lines, **options):
    return await engine.build_image(
        BuildRequest(
            context=context,
            dockerfile_content="\n".join(("FROM scratch", *lines, "")).encode(),
            names=("built:test",),
            **options,
        )
    )


async def layer_files(engine, built, number):
    details = await engine.inspect_image(built.image_id)
    return await engine.list_layer_files(built.image_id, len(details.layers) + number)


async def files_of(engine, built, number=-1):
    """Paths of a layer of what was built, each with its owner."""
    tree = await layer_files(engine, built, number)
    return {entry.path: f"{entry.user_id}:{entry.group_id}" for entry in tree.entries}


async def test_files_directories_and_documents_of_the_dockerfile_are_copied(engine, context):
    built = await build(engine, context, "COPY a d /to/", "COPY <<EOF /to/here", "text", "EOF")

    assert await files_of(engine, built, -2) == {"to": "0:0", "to/a": "0:0", "to/b": "0:0"}
    assert await files_of(engine, built) == {"to": "0:0", "to/here": "0:0"}


async def test_the_same_context_is_not_copied_again(engine, context):
    first = await build(engine, context, "COPY . /", "WORKDIR /w")
    (context / "a").touch()
    again = await build(engine, context, "COPY . /", "WORKDIR /w")
    (context / "a").write_text("other")
    other = await build(engine, context, "COPY . /", "WORKDIR /w")

    assert (first.cached_count, again.cached_count, other.cached_count) == (0, 2, 0)
    assert again.image_id == first.image_id != other.image_id


async def test_archives_are_unpacked_by_add_and_not_by_copy(engine, context):
    (context / "x").write_bytes(gzip.compress(archive(inner=b"content")))

    built = await build(
        engine, context, "ADD x /added/", "COPY x /copied/", "ADD --unpack=false x /"
    )

    assert await files_of(engine, built, -3) == {"added": "0:0", "added/inner": "3:4"}
    assert await files_of(engine, built, -2) == {"copied": "0:0", "copied/x": "0:0"}
    assert await files_of(engine, built) == {"x": "0:0"}


async def test_what_one_stage_has_is_copied_into_another(engine, context):
    (context / "x").write_bytes(archive(inner=b""))
    built = await build(
        engine,
        context,
        "ADD x /",
        "COPY --chown=5:6 d /d",
        "FROM scratch",
        "COPY --from=0 /d /inner /to/",
    )

    assert await files_of(engine, built) == {"to": "0:0", "to/b": "5:6", "to/inner": "3:4"}


async def test_a_directory_may_have_a_name_in_the_build(engine, context, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    (other / "left-out").touch()
    (other / ".dockerignore").write_text("left-out\n.*")

    built = await build(
        engine,
        context,
        "COPY --from=more . /",
        named_contexts=(NamedContext(name="more", source=str(other)),),
    )

    assert await files_of(engine, built) == {"kept": "0:0"}


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
async def test_a_context_may_come_through_a_pipe(engine, tmp_path, compress):
    content = compress(archive(Dockerfile=b"FROM scratch\nCOPY . /\n", a=b"one", b=b"two"))
    reading, writing = os.pipe()

    def write():
        with open(writing, "wb") as pipe:
            pipe.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        built = await engine.build_image(BuildRequest(context=reading))
    finally:
        os.close(reading)
        await asyncio.to_thread(writer.join)

    assert await files_of(engine, built) == {"Dockerfile": "0:0", "a": "0:0", "b": "0:0"}


async def test_a_build_that_waits_for_its_context_can_be_cancelled(engine):
    reading, writing = os.pipe()
    try:
        waiting = asyncio.create_task(engine.build_image(BuildRequest(context=reading)))
        # More than a pipe holds: whoever has read some of it waits for the rest.
        content = archive(a=bytes(1 << 20))[: 200 << 10]
        await asyncio.to_thread(os.write, writing, content)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, archive(a=b"x" * 5000)[:3000]])
async def test_what_is_no_context_is_refused(engine, tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file, pytest.raises(EngineError) as caught:
        await engine.build_image(BuildRequest(context=file.fileno()))

    assert "standard input" in str(caught.value) or "dockerfile" in str(caught.value)


async def test_a_missing_source_says_what_leaves_it_out(engine, context):
    (context / ".dockerignore").write_text("# comment\nd\n")

    with pytest.raises(BuildStepError) as caught:
        await build(engine, context, "COPY d/b /")

    assert '"d/b": not found' in str(caught.value)
    assert ".dockerignore:2 (d)" in caught.value.hint


# --- addresses ----------------------------------------------------------------------------------


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/hang":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"begun")
            self.wfile.flush()
            self.server.is_asked.set()
            self.server.may_end.wait(60)
            return
        super().do_GET()


@pytest.fixture
def served(tmp_path):
    directory = tmp_path / "served"
    directory.mkdir()
    (directory / "file").write_bytes(b"from the web")
    os.utime(directory / "file", (86400, 86400))
    (directory / "x.tar").write_bytes(archive(inner=b"content"))
    handler = functools.partial(Server, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.is_asked, server.may_end = threading.Event(), threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield server
        finally:
            server.may_end.set()
            server.shutdown()
            thread.join()


async def test_what_an_address_has_is_added(engine, context, served):
    digest = hashlib.sha256(b"from the web").hexdigest()

    built = await build(
        engine,
        context,
        f"ADD --checksum=sha256:{digest} {served.address}/moved /to/name",
        f"ADD {served.address}/x.tar {served.address}/file?query a /to/",
        f"ADD --unpack=true {served.address}/x.tar /",
        epoch_seconds=10**9,
    )

    tree = await layer_files(engine, built, -3)
    (file,) = [entry for entry in tree.entries if entry.path == "to/name"]
    assert (file.mode, file.modified_at, file.size_bytes) == (0o600, 86400, 12)
    assert set(await files_of(engine, built, -2)) == {"to", "to/x.tar", "to/file", "to/a"}
    assert await files_of(engine, built) == {"inner": "3:4"}


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ("ADD {}/nothing /", "invalid response status 404"),
        ("ADD --checksum=sha256:" + "0" * 64 + " {}/file /", "digest mismatch"),
        ("ADD --checksum=sha256:abc a /", "checksum can't be specified for non-HTTP(S) sources"),
        ("ADD http://127.0.0.1:1/file /", "failed to load http://127.0.0.1:1/file"),
        ("ADD https://example.org/repository.git /", "ADD of the git repository"),
        ("ADD git@example.org:repository.git#main /", "ADD of the git repository"),
    ],
)
async def test_what_cannot_be_added_is_said(engine, context, served, instruction, text):
    with pytest.raises(EngineError) as caught:
        await build(engine, context, instruction.format(served.address))

    assert text in str(caught.value)


async def test_a_download_that_hangs_can_be_cancelled(engine, context, served):
    building = asyncio.create_task(build(engine, context, f"ADD {served.address}/hang /"))
    await asyncio.to_thread(served.is_asked.wait)
    building.cancel()

    with pytest.raises(asyncio.CancelledError):
        await building
    with contextlib.suppress(BuildStepError):
        assert not [one for one in await engine.list_builds() if one.status == "running"]
