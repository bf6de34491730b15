"""The commands: where each one lives and what it does in a line.

`lamella --help` is made from this table alone, so that it imports no command.
"""

from __future__ import annotations

VERSION = "0.1.0"

GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Images",
        (
            ("pull", "tui.cli.transfers", "Get an image from a registry"),
            ("push", "tui.cli.transfers", "Give an image to a registry"),
            ("peek", "tui.cli.transfers", "Look at an image in a registry without pulling it"),
            ("search", "tui.cli.registries", "Find images in a registry, or the tags of one"),
            ("load", "tui.cli.images", "Load images from an archive, a layout directory or stdin"),
            ("save", "tui.cli.archives", "Write images to an archive"),
            ("import", "tui.cli.archives", "Make an image of the tar of a root filesystem"),
            ("images", "tui.cli.images", "List images"),
            ("history", "tui.cli.images", "Show the layers and steps of an image"),
            ("tag", "tui.cli.images", "Give an image another name"),
            ("rmi", "tui.cli.images", "Remove images"),
            ("image", "tui.cli.image_group", "All of these by two words, and `image prune`"),
        ),
    ),
    (
        "Builds",
        (
            ("build", "tui.cli.build", "Build an image from a Dockerfile"),
            ("builder", "tui.cli.build", "See and clean up what builds have left"),
        ),
    ),
    (
        "Registries",
        (
            ("delete", "tui.cli.registries", "Delete an image from a registry"),
            ("login", "tui.cli.registries", "Tell a registry who you are"),
            ("logout", "tui.cli.registries", "Forget who you are to a registry"),
        ),
    ),
    (
        "Containers",
        (
            ("run", "tui.cli.run", "Create and start a container"),
            ("create", "tui.cli.run", "Create a container without starting it"),
            ("exec", "tui.cli.sessions", "Run another program in a running container"),
            ("attach", "tui.cli.sessions", "Connect to the program of a running container"),
            ("ps", "tui.cli.listing", "List containers"),
            ("start", "tui.cli.containers", "Start containers"),
            ("stop", "tui.cli.containers", "Stop containers"),
            ("restart", "tui.cli.containers", "Stop and start containers"),
            ("kill", "tui.cli.containers", "Send a signal to containers"),
            ("pause", "tui.cli.containers", "Freeze every process of containers"),
            ("unpause", "tui.cli.containers", "Let paused containers go on"),
            ("wait", "tui.cli.containers", "Wait for containers to end and print their exit codes"),
            ("update", "tui.cli.update", "Change limits and restart policy of containers"),
            ("rename", "tui.cli.containers", "Give a container another name"),
            ("rm", "tui.cli.containers", "Remove containers"),
            ("commit", "tui.cli.making", "Make an image of a container"),
            ("cp", "tui.cli.making", "Copy files between a container and this host"),
            ("export", "tui.cli.making", "Write all files of a container as a tar archive"),
        ),
    ),
    (
        "Networks",
        (
            ("network", "tui.cli.networks", "Make, list, inspect, connect and remove networks"),
            ("port", "tui.cli.ports", "Show which ports of this host lead to a container"),
        ),
    ),
    (
        "Volumes",
        (("volume", "tui.cli.volumes", "Make, list, inspect and remove volumes"),),
    ),
    (
        "Cleaning up",
        (
            ("container", "tui.cli.pruning", "Remove containers that do not run"),
            ("system", "tui.cli.pruning", "Show what the store occupies, and clean it up"),
            ("fsck", "tui.cli.fsck", "Verify everything in the store, and repair what can be"),
        ),
    ),
    (
        "Watching",
        (
            ("logs", "tui.cli.logs", "Show what a container wrote"),
            ("stats", "tui.cli.stats", "Show what running containers use"),
            ("top", "tui.cli.top", "List the processes of a container"),
            ("diff", "tui.cli.listing", "List what a container changed in its files"),
            (
                "events",
                "tui.cli.events",
                "Follow what happens to containers, images, volumes, networks",
            ),
            ("inspect", "tui.cli.inspection", "Show everything about any of these, as JSON"),
            ("info", "tui.cli.inspection", "Show what this host gives, and what is missing"),
        ),
    ),
    (
        "Getting started",
        (("demo", "tui.cli.demo", "Make a demo image and start three containers worth watching"),),
    ),
)


def module_of(name: str) -> str | None:
    """The module that has a command; None when there is no such command."""
    for _title, commands in GROUPS:
        for command, module, _summary in commands:
            if command == name:
                return module
    return None


def names() -> tuple[str, ...]:
    """Every command's name, in the order of the help."""
    return tuple(command for _title, commands in GROUPS for command, _module, _summary in commands)


def help_text() -> str:
    """What `lamella --help` prints."""
    lines = [
        "Usage: lamella [--root DIRECTORY] [--run DIRECTORY] [COMMAND]",
        "",
        "A terminal workbench for images, layers and containers.",
        "Without a command it opens the application.",
    ]
    for title, commands in GROUPS:
        lines += ["", f"{title}:"]
        lines += [f"  {command:<9} {summary}" for command, _module, summary in commands]
    lines += [
        "",
        "Options:",
        "  --root DIRECTORY  Where images and containers are kept (LAMELLA_ROOT)",
        "  --run DIRECTORY   Where sockets and locks are kept (LAMELLA_RUN)",
        "  -h, --help        Show this, or with a command what that command takes",
        "  -v, --version     Show the version",
        "",
        "`lamella COMMAND --help` shows the options of a command.",
    ]
    return "\n".join(lines)
