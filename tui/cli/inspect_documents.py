"""What `inspect` shows: Docker's document by Docker's names, and the engine's own record behind it.

`{{.State.Status}}`, `{{.Config.Env}}`, `{{range .Mounts}}` and `jq '.[0].State'` work as they do
with Docker; what the engine knows beyond that stands under its own names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from engine.types import ContainerStatus
from tui.cli.docker_texts import rfc3339
from tui.cli.documents import document
from tui.cli.host_config import limit_fields, option_fields
from tui.cli.network_documents import exposed_ports, network_fields, network_settings
from tui.cli.template_functions import LabelMap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.types import ContainerDetails, ImageDetails
    from tui.cli.documents import Document

_LIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)


def container_document(details: ContainerDetails) -> dict[str, Document]:
    """Everything about a container."""
    summary = details.summary
    program, *arguments = details.arguments or ("",)
    found: dict[str, Document] = {
        "Id": summary.container_id,
        "Created": rfc3339(summary.created_at),
        "Path": program,
        "Args": _texts(arguments),
        "State": _state(details),
        "Image": summary.image_id,
        "LogPath": details.log_path,
        "RestartCount": summary.restart_count,
        "Name": f"/{summary.name}",
        "Driver": details.snapshotter,
        "Platform": "linux",
        "HostConfig": {
            **limit_fields(details.limits),
            **option_fields(details.options),
            **network_fields(details),
            "Init": details.has_init,
            "RestartPolicy": {
                "Name": details.restart_policy.name,
                "MaximumRetryCount": details.restart_policy.maximum_retry_count,
            },
            "AutoRemove": summary.is_removed_on_exit,
            "ReadonlyRootfs": details.is_read_only,
        },
        "GraphDriver": {
            "Name": details.snapshotter,
            "Data": {"UpperDir": details.writable_layer_path},
        },
        "Mounts": [
            {
                "Type": mount.kind,
                "Name": mount.name,
                "Source": mount.source,
                "Destination": mount.target,
                "Driver": "local" if mount.kind == "volume" else "",
                "Mode": ",".join(mount.options),
                "RW": not mount.is_read_only,
                "Propagation": mount.propagation,
            }
            for mount in details.mounts
        ],
        "Config": {
            "Hostname": details.hostname,
            "ExposedPorts": exposed_ports(summary.exposed_ports, details.network),
            "User": details.user,
            "Tty": details.has_terminal,
            "OpenStdin": details.is_stdin_open,
            "Env": _texts(details.environment),
            "Cmd": _texts(details.arguments),
            "Image": summary.image,
            "WorkingDir": details.working_directory,
            "Labels": LabelMap(details.labels),
            "StopSignal": details.stop_signal,
            "StopTimeout": round(details.stop_timeout_seconds),
        },
        "NetworkSettings": network_settings(details),
    }
    return _with_record(found, document(details))


def _state(details: ContainerDetails) -> dict[str, Document]:
    summary, health = details.summary, details.health
    state: dict[str, Document] = {
        "Status": summary.status.value,
        "Running": summary.status in _LIVE,
        "Paused": summary.status is ContainerStatus.PAUSED,
        "Restarting": summary.status is ContainerStatus.RESTARTING,
        "OOMKilled": summary.is_out_of_memory_killed,
        "Dead": summary.status is ContainerStatus.DEAD,
        "Pid": details.process_id or 0,
        "ExitCode": summary.exit_code or 0,
        "Error": summary.error,
        "StartedAt": rfc3339(summary.started_at),
        "FinishedAt": rfc3339(summary.finished_at),
    }
    if health is not None:
        state["Health"] = {
            "Status": health.status,
            "FailingStreak": health.failing_streak,
            "Log": [
                {
                    "Start": rfc3339(probe.started_at),
                    "End": rfc3339(probe.finished_at),
                    "ExitCode": probe.exit_code,
                    "Output": probe.output,
                }
                for probe in health.probes
            ],
        }
    return state


def image_document(details: ImageDetails) -> dict[str, Document]:
    """Everything about an image."""
    summary, config = details.summary, details.config
    repositories = sorted({name.rpartition(":")[0] for name in summary.names})
    found: dict[str, Document] = {
        "Id": summary.image_id,
        "RepoTags": _texts(summary.names),
        "RepoDigests": [f"{name}@{details.digest}" for name in repositories],
        "Created": rfc3339(summary.created_at),
        "Author": details.author,
        "Architecture": details.architecture,
        "Os": details.operating_system,
        "Size": summary.size_bytes,
        "Config": {
            "User": config.user,
            "Env": _texts(config.environment),
            "Entrypoint": _words(config.entrypoint),
            "Cmd": _words(config.command),
            "WorkingDir": config.working_directory,
            "Labels": LabelMap(config.labels),
            "ExposedPorts": _set(config.exposed_ports),
            "Volumes": _set(config.volumes),
            "StopSignal": config.stop_signal,
        },
        "RootFS": {
            "Type": "layers",
            "Layers": [layer.diff_id for layer in details.layers if layer.diff_id],
        },
    }
    together = _with_record(found, document(details))
    together["config_json"] = json.loads(details.config_json)
    return together


def _with_record(found: dict[str, Document], record: Document) -> dict[str, Document]:
    return {**found, **record} if isinstance(record, dict) else found


def _texts(texts: Iterable[str]) -> list[Document]:
    return [*texts]


def _words(words: tuple[str, ...]) -> Document:
    return _texts(words) or None


def _set(names: Iterable[str]) -> Document:
    return LabelMap((name, {}) for name in names) or None
