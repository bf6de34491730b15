"""Builds of real Dockerfiles in real containers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.errors import BuildStepError, EngineError, InvalidInputError
from engine.types import (
    FIRST_IMAGES_AT,
    BuildCacheFilter,
    BuildOutput,
    BuildRequest,
    BuildSecret,
    BuildStepState,
    CacheReasonKind,
    PruneFilter,
    SaveOptions,
)

pytestmark = pytest.mark.usefixtures("starter_image")


def request_of(text: str, context: Path | None = None, **options: object) -> BuildRequest:
    options.setdefault("network", "none")
    return BuildRequest(dockerfile_content=text.encode(), context=context, **options)


async def steps_of(engine, request):
    """Build, and return the last progress."""
    heard = []
    await engine.build_image(request, listener=heard.append)
    return heard[-1].progress.steps


async def layer_names(engine, image_id):
    """What each layer of the image above the starter's holds."""
    details = await engine.inspect_image(image_id)
    below = {one.chain_id for one in (await engine.inspect_image("starter")).layers}
    found = []
    for layer in details.layers:
        if layer.chain_id in below:
            continue
        if not layer.is_empty:
            tree = await engine.list_layer_files(image_id, layer.position)
            found.append(
                [entry.path for entry in tree.entries if entry.change.value != "unchanged"]
            )
    return found


def files_with(value, *tops):
    """Paths of files that hold some bytes; an engine may remove others meanwhile."""
    found = []
    for top in tops:
        for directory, _directories, names in os.walk(top):
            for path in (Path(directory, name) for name in names):
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file() and value in path.read_bytes():
                        found.append(path)
    return found


async def test_configuration_and_history_are_those_of_docker(engine):
    built = await engine.build_image(
        request_of(
            "FROM starter\nARG A=1\nENV X=a Y=$A\nRUN echo $A > /f\nWORKDIR /srv/app\n"
            "EXPOSE 80 53/udp\nUSER 1000\nVOLUME /data\nLABEL k=v\nSTOPSIGNAL SIGINT\n"
            'ENTRYPOINT ["/bin/sh"]\nCMD ["-c", "true"]\n',
        )
    )
    details = await engine.inspect_image(built.image_id)
    document = json.loads(details.config_json)

    base = len((await engine.inspect_image("starter")).layers)
    config = document["config"]
    assert config["Env"][-2:] == ["X=a", "Y=1"]
    assert (config["User"], config["WorkingDir"]) == ("1000", "/srv/app")
    assert sorted(config["ExposedPorts"]) == ["53/udp", "80/tcp"]
    assert (config["Entrypoint"], config["Cmd"]) == (["/bin/sh"], ["-c", "true"])
    assert (config["Labels"]["k"], config["StopSignal"]) == ("v", "SIGINT")
    own = [(one["created_by"], one.get("empty_layer", False)) for one in document["history"][base:]]
    assert own[:4] == [
        ("ARG A=1", True),
        ("ENV X=a Y=1", True),
        ("RUN |1 A=1 /bin/sh -c echo $A > /f # buildkit", False),
        ("WORKDIR /srv/app", False),
    ]
    assert {one["created"] for one in document["history"][base:]} == {"1980-01-01T00:00:00.000000Z"}
    layers = sum(not one.get("empty_layer", False) for one in document["history"])
    assert layers == len(document["rootfs"]["diff_ids"])


async def test_a_step_that_changes_nothing_makes_no_layer(engine):
    steps = await steps_of(engine, request_of("FROM starter\nRUN true\nRUN echo x > /x\n"))

    assert [step.is_empty for step in steps] == [True, True, False]


async def test_what_steps_leave_besides_their_layers_goes_while_the_build_runs(engine, store_paths):
    request = request_of(
        "FROM starter\nRUN echo x > /x\nRUN echo y > /y\nRUN echo z > /z; sleep 1000"
    )
    building = asyncio.create_task(engine.build_image(request))
    left = ["?"]
    try:
        async with asyncio.timeout(30):
            while left != ["2"]:
                await asyncio.sleep(0)
                found = store_paths.root.glob("staging/build-*/work/*")
                left = sorted(path.name for path in found if path.name.isdigit())
    finally:
        building.cancel()
        await asyncio.wait((building,))


async def test_a_step_does_not_wait_for_the_disk(engine):
    heard = []
    request = request_of("FROM starter\nRUN sed -n 's/.* - overlay //p' /proc/self/mountinfo")
    await engine.build_image(request, listener=heard.append)

    (said,) = [event.data for event in heard if isinstance(event, BuildOutput)]
    options = os.fsdecode(said).strip().split(",")
    # Newer kernels call it `fsync=volatile`.
    assert {"volatile", "fsync=volatile"} & set(options)


async def test_what_the_engine_mounts_is_in_no_layer(engine):
    built = await engine.build_image(
        request_of(
            "FROM starter\n"
            "RUN --mount=type=tmpfs,target=/scratch/deep --mount=type=cache,target=/cache "
            "echo x > /cache/x && echo y > /scratch/deep/y && echo z > /z\n"
        )
    )

    assert await layer_names(engine, built.image_id) == [["z"]]


async def test_a_cache_outlives_builds_and_a_bind_mount_is_not_written(engine):
    text = (
        "FROM starter AS files\nRUN echo one > /file\n"
        "FROM starter\n"
        "RUN --mount=type=cache,target=/cache echo {n} >> /cache/lines && cp /cache/lines /lines\n"
        "RUN --mount=from=files,target=/files cat /files/file > /copied\n"
        "RUN --mount=from=files,target=/files,rw echo more >> /files/file && cat /files/file\n"
    )
    await engine.build_image(request_of(text.format(n=1)))
    built = await engine.build_image(request_of(text.format(n=2)))

    details = await engine.inspect_image(built.image_id)
    position = next(layer.position for layer in details.layers if "/lines" in layer.created_by)
    content = await engine.read_layer_file(built.image_id, position, "lines")
    assert content.content == b"1\n2\n"


async def test_a_secret_is_read_and_is_nowhere_in_the_store(engine, store_paths):
    value = b"q7-very-secret-q7"
    heard = []
    await engine.build_image(
        request_of(
            "FROM starter\n"
            "RUN --mount=type=secret,id=key test $(wc -c < /run/secrets/key) = 17; echo > /ok\n"
            'RUN --mount=type=secret,id=key,env=KEY test -n "$KEY"\n'
            "RUN test ! -e /run/secrets/key\n",
            secrets=(BuildSecret(secret_id="key", value=value),),
        ),
        listener=heard.append,
    )

    found = await asyncio.to_thread(files_with, value, store_paths.root, store_paths.run)
    assert not found
    assert not [event for event in heard if isinstance(event, BuildOutput) and value in event.data]


async def test_a_required_secret_that_is_missing_fails_the_step(engine):
    with pytest.raises(BuildStepError) as caught:
        await engine.build_image(
            request_of(
                "FROM starter\nRUN --mount=type=secret,id=nope,required cat /run/secrets/nope\n"
            )
        )

    assert "secret nope: not found" in caught.value.message


async def test_only_what_a_step_uses_makes_it_run_again(engine, tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("other")
    text = "FROM starter\nARG N=1\nCOPY a /a\nRUN cat /a > /c\nLABEL n=$N\n"
    await engine.build_image(request_of(text, tmp_path))

    os.utime(tmp_path / "a", (1, 1))
    (tmp_path / "b").write_text("changed")
    steps = await steps_of(engine, request_of(text.replace("LABEL n=$N", "LABEL m=2"), tmp_path))
    assert [step.state for step in steps[1:]] == [BuildStepState.CACHED] * 2

    (tmp_path / "a").write_text("two")
    steps = await steps_of(engine, request_of(text, tmp_path))
    reason = steps[1].cache.reasons[0]
    assert (reason.kind, reason.subject) == (CacheReasonKind.FILE, "a")
    assert reason.text == "a has another content"
    assert steps[2].cache.reasons[0].kind is CacheReasonKind.PARENT

    steps = await steps_of(engine, request_of(text.replace("cat /a", "cat  /a"), tmp_path))
    assert steps[2].cache.reasons[0].kind is CacheReasonKind.COMMAND


async def test_a_step_that_gives_the_same_again_changes_nothing_above_it(engine):
    text = (
        "FROM starter AS made\nARG N\nRUN echo $N > /dev/null; echo same > /out\n"
        "FROM starter\nCOPY --from=made /out /out\nRUN cat /out > /copy\n"
    )
    await engine.build_image(request_of(text, arguments=(("N", "1"),)))
    steps = await steps_of(engine, request_of(text, arguments=(("N", "2"),)))

    states = {step.text: step.state for step in steps}
    assert states["COPY --from=made /out /out"] is BuildStepState.CACHED
    assert states["RUN cat /out > /copy"] is BuildStepState.CACHED
    ran = next(step for step in steps if step.text.startswith("RUN echo $N"))
    assert ran.state is BuildStepState.DONE
    assert ran.cache.reasons[0].subject == "N"


async def test_a_stage_that_nothing_needs_is_not_built(engine):
    steps = await steps_of(
        engine, request_of("FROM starter AS broken\nRUN exit 1\nFROM starter\nRUN true\n")
    )

    assert [step.text for step in steps] == ["FROM starter", "RUN true"]


async def test_two_stores_make_the_same_image_byte_for_byte(tmp_path, starter_store):
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "file").write_text("content")
    text = (
        "FROM starter\nWORKDIR /srv\nCOPY file .\nRUN date > /dev/null; mkdir -p d/e; touch d/e/f; "
        "ln -s f d/e/l; ln d/e/f d/h\n"
    )
    archives = []
    for number in range(2):
        config = EngineConfig(root=tmp_path / str(number), run=tmp_path / f"r{number}")
        starter_store.copy_to(config.root)
        os.utime(tmp_path / "context" / "file", (10**9 + number, 10**9 + number))
        async with Engine.open(config) as engine:
            request = request_of(text, tmp_path / "context", names=("same",))
            await engine.build_image(request)
            target = tmp_path / f"{number}.tar"
            await engine.save_images(["same"], target, options=SaveOptions())
            archives.append(target.read_bytes())

    assert archives[0] == archives[1]


async def test_no_time_is_later_than_the_epoch(engine, tmp_path):
    built = await engine.build_image(
        request_of(
            "FROM starter\nRUN echo x > /x; mkdir /d\n", epoch_seconds=1_000_000_000, names=("t",)
        )
    )
    await engine.save_images(["t"], tmp_path / "saved.tar")

    with tarfile.open(tmp_path / "saved.tar") as archive:
        config = json.load(archive.extractfile(f"blobs/sha256/{built.image_id[7:]}"))
        layer = archive.extractfile("blobs/sha256/" + config["rootfs"]["diff_ids"][-1][7:])
        with tarfile.open(fileobj=layer) as tar:
            assert {member.mtime for member in tar} == {1_000_000_000}
    assert config["created"].startswith("2001-09-09T01:46:40")


async def test_an_image_whose_time_is_fixed_is_as_old_as_it_is_here(engine):
    before = time.time()
    built = await engine.build_image(request_of("FROM starter\nRUN echo new > /new\n"))
    first, *others = await engine.list_images()
    assert first.image_id == built.image_id
    assert others
    assert first.created_at is not None
    assert first.created_at < FIRST_IMAGES_AT
    assert before <= first.made_at <= time.time()
    assert (await engine.inspect_image(built.image_id)).summary.made_at == first.made_at

    await engine.prune_images(PruneFilter(created_before=before))
    assert built.image_id in {one.image_id for one in await engine.list_images()}
    await engine.prune_images(PruneFilter(created_before=time.time()))
    assert built.image_id not in {one.image_id for one in await engine.list_images()}


async def test_onbuild_of_a_base_comes_first(engine):
    await engine.build_image(
        request_of(
            "FROM starter\nONBUILD RUN echo trigger > /t\nONBUILD ENV T=1\n", names=("base",)
        )
    )
    built = await engine.build_image(request_of("FROM base\nRUN test $T = 1 && cat /t > /u\n"))

    assert await layer_names(engine, built.image_id) == [["t"], ["u"]]
    document = json.loads((await engine.inspect_image(built.image_id)).config_json)
    assert "OnBuild" not in document["config"]


async def test_heredocs_run_and_are_copied(engine):
    built = await engine.build_image(
        request_of(
            "FROM starter\nRUN <<EOF\necho one > /one\nEOF\n"
            "RUN <<SCRIPT\n#!/bin/sh\necho $0 > /two\nSCRIPT\n"
            "COPY <<three <<'four' /d/\nx=$HOME\nthree\ny=$HOME\nfour\n"
        )
    )

    assert await layer_names(engine, built.image_id) == [
        ["one"], ["two"], ["d", "d/four", "d/three"],
    ]  # fmt: skip


async def test_a_failed_step_leaves_what_it_has_written_if_asked(engine):
    with pytest.raises(BuildStepError) as caught:
        await engine.build_image(
            request_of("FROM starter\nRUN echo half > /half; exit 7\n", keeps_failed_step=True)
        )

    assert caught.value.step_exit_code == 7
    assert await layer_names(engine, caught.value.failed_image_id) == [["half"]]


async def test_a_command_that_is_not_there_fails_like_in_a_shell(engine):
    with pytest.raises(BuildStepError) as caught:
        await engine.build_image(request_of('FROM starter\nRUN ["/nothing"]\n'))

    assert caught.value.step_exit_code == 127


async def test_a_pruned_cache_makes_room_and_keeps_what_images_have(engine):
    built = await engine.build_image(request_of("FROM starter\nRUN echo x > /x\n", names=("kept",)))
    await engine.build_image(request_of("FROM starter\nRUN echo yy > /y\n"))
    await engine.prune_images(_everything())

    pruned = await engine.prune_build_cache(BuildCacheFilter())

    assert len(pruned.entry_ids) == 1
    assert await layer_names(engine, built.image_id) == [["x"]]
    steps = await steps_of(engine, request_of("FROM starter\nRUN echo x > /x\n"))
    assert steps[1].state is BuildStepState.CACHED


def _everything():
    from engine.types import PruneFilter

    return PruneFilter()


async def test_what_cannot_be_is_refused_before_anything_runs(engine, tmp_path):
    for bad in (
        request_of("FROM starter\n", target="nothing"),
        request_of("FROM starter\n", platform="linux/s390x"),
        request_of("FROM starter\n", network="bridge"),
        request_of("FROM starter\nCOPY a /a\n"),
        BuildRequest(context=tmp_path),
        BuildRequest(context=tmp_path / "gone"),
    ):
        with pytest.raises(EngineError):
            await engine.build_image(bad)
    with pytest.raises(InvalidInputError):
        await engine.build_image(BuildRequest())
    assert await engine.list_build_cache() == ()


@pytest.mark.parametrize("name", ["other", "/nowhere/other"])
async def test_a_dockerfile_that_is_not_there_is_named_as_it_was_looked_for(engine, tmp_path, name):
    with pytest.raises(InvalidInputError) as refused:
        await engine.build_image(BuildRequest(context=tmp_path, dockerfile=name))
    assert f"open {name}: no such file" in refused.value.message
    assert refused.value.hint == f"-f names another one than {tmp_path / name}"


async def test_a_step_that_never_does_the_same_says_which_files(engine):
    text = "FROM starter\nRUN mkdir /d; echo a > /d/a; cat /proc/sys/kernel/random/uuid > /d/id\n"
    await engine.build_image(request_of(text))
    heard = []
    await engine.build_image(request_of(text, uses_cache=False), listener=heard.append)

    # A host that cannot limit anything says so as well.
    assert heard[-1].progress.steps[1].warnings[-1] == "not reproducible: /d/id"
    assert "/d/a" not in str(heard[-1].progress.steps[1].warnings)


async def test_what_is_doubtful_is_said_before_anything_runs(engine, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/kept").write_text("")
    (tmp_path / ".dockerignore").write_text("d\n!d/kept\n")
    heard = []
    await engine.build_image(
        request_of("# syntax=example/other:1\nFROM starter\nCOPY d /d\n", tmp_path),
        listener=heard.append,
    )

    assert [(one.rule, one.line, one.text) for one in heard[-1].progress.warnings] == [
        (
            "",
            1,
            "# syntax=example/other:1 is not used: a Dockerfile is always read as Docker's own "
            "frontend reads it",
        ),
        (
            "CopyIgnoredFile",
            3,
            'Attempting to Copy file "d" that is excluded by .dockerignore',
        ),
    ]


@pytest.mark.parametrize(
    "name",
    ["docker/dockerfile", "docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile-upstream:x"],
)
async def test_every_version_of_dockers_frontend_is_meant(engine, name):
    heard = []
    await engine.build_image(request_of(f"# syntax={name}\nFROM starter\n"), listener=heard.append)

    assert heard[-1].progress.warnings == ()
