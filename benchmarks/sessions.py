"""Rows about programs in running containers: exec, and attaching again."""

from __future__ import annotations

import os

from benchmarks.containers import podman_with_image, small_engine, timed, working_peers
from benchmarks.measure import Clock, Result, Timed, compare, interleave
from benchmarks.place import IMAGE, PeerMissingError, Place, run
from engine.types import ContainerRequest, ExecRequest


async def execute(place: Place) -> Result:
    """Exec into a container, engine warm: request to exec, and all of it; attach to what runs."""
    result = Result()
    async with small_engine(place) as engine:
        created = await engine.create_container(
            ContainerRequest(image=IMAGE, command=("sleep", "1000"))
        )
        await engine.start_container(created.container_id)
        request = ExecRequest(command=("true",))
        to_exec: list[float] = []
        to_attach: list[float] = []

        async def ours() -> float:
            attached = Clock()
            async with engine.attach_container(created.container_id, has_replay=False):
                to_attach.append(attached.seconds)
            clock = Clock()
            async with engine.exec_container(created.container_id, request) as session:
                to_exec.append(clock.seconds)
                while await session.read() is not None:
                    continue
            return clock.seconds

        peers: dict[str, Timed] = {}
        name = f"bench-{os.getpid()}"
        try:
            words, environment = await podman_with_image(place)
            options = ("--network", "none", "--name", name)
            await run(
                *words, "run", "-d", *options, IMAGE, "sleep", "1000", environment=environment
            )
            peers = await working_peers(
                result,
                {"podman exec": timed(*words, "exec", name, "true", environment=environment)},
            )
        except PeerMissingError as error:
            result.skipped.append(f"podman: {error}")
        samples = await interleave({"lamella": ours, **peers}, rounds=40)
        result.figures += compare("exec: request to exec", {"lamella": to_exec[1:]})
        result.figures += compare("exec of true, all of it", samples)
        result.figures += compare("attach to a container", {"lamella": to_attach[1:]})
    return result
