import asyncio
from types import SimpleNamespace

from engine.config import EngineConfig
from engine.containers.states import open_monitor_lock
from engine.containers.watch import MonitorWatch
from engine.runtime.spec import StateRecord
from engine.types import RestartPolicy


class Services:
    """Says of every container that it runs under a monitor that no process id of ours names."""

    def __init__(self, directory):
        self.config = EngineConfig(root=directory / "root", run=directory / "run")
        self.looks = 0

    async def in_thread(self, function, *arguments):
        if function is open_monitor_lock:
            return function(*arguments)
        self.looks += 1
        await asyncio.sleep(0)
        return StateRecord(status="running", monitor_process_id=1, monitor_start_ticks=1), False

    @property
    def table(self):
        return self

    async def get(self, container_id):
        return SimpleNamespace(
            container_id=container_id, name="web", restart_policy=RestartPolicy()
        )


async def test_a_monitor_that_cannot_be_watched_is_looked_at_again_and_then_let_be(tmp_path):
    services = Services(tmp_path)
    watch = MonitorWatch(services)
    running = asyncio.create_task(watch.run())
    await watch.follow("a" * 64)
    for _ in range(50):
        await asyncio.sleep(0)
    # Once to follow, once for its state and once more when nobody has its lock, and once to follow
    # again; then nobody is busy with it.
    assert services.looks == 4
    running.cancel()
    await asyncio.wait((running,))
    watch.close()
