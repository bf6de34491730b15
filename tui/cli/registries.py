"""Commands about registries: search, login, logout."""

from __future__ import annotations

import getpass
import signal
import sys
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError, RegistryRefusedError
from tui.cli import output
from tui.cli.command import Command
from tui.cli.documents import document
from tui.cli.filters import Filters, truth_of
from tui.cli.images import NO_TRUNCATION
from tui.cli.options import Option, UsageError
from tui.cli.rows import FORMAT, Row, Shape, row
from tui.cli.session import for_each
from tui.cli.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api import EngineApi
    from engine.types import FoundImage
    from tui.cli.options import Arguments

_HEADS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
    "Tag": "TAG",
}
_FILTER_KEYS = ("is-automated", "is-official", "stars")
_DESCRIPTION_WIDTH = 45
_MOST_FOUND = 100
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


async def search(engine: EngineApi, arguments: Arguments) -> int:
    """Find images, or list the tags of a repository."""
    shape = Shape(arguments.text("format"), heads=_HEADS)
    term = arguments.operands[0]
    limit = whole_number("--limit", arguments.text("limit") or "25", smallest=0) or 25
    if limit > _MOST_FOUND:
        raise InvalidInputError(f"limit {limit} is outside the range of [1, {_MOST_FOUND}]")
    if arguments.is_on("list-tags"):
        return await _list_tags(engine, arguments, shape, term)
    filters = Filters(arguments.texts("filter"), known=_FILTER_KEYS, command="search")
    keeps = _keeper(filters)
    found = [image for image in await engine.search_images(term, limit=limit) if keeps(image)]
    is_whole = arguments.is_on("no-trunc")
    if not shape.is_own_table:
        shape.write([_row(image, is_whole=is_whole) for image in found])
        return 0
    output.write_table(
        ("NAME", "DESCRIPTION", "STARS", "OFFICIAL"),
        [
            (
                image.name,
                _described(image, is_whole=is_whole),
                str(image.star_count),
                "[OK]" if image.is_official else "",
            )
            for image in found
        ],
    )
    return 0


async def _list_tags(engine: EngineApi, arguments: Arguments, shape: Shape, name: str) -> int:
    if arguments.texts("filter"):
        raise UsageError("filters are not for tags", command="search")
    tags = await engine.list_remote_tags(name)
    if arguments.text("limit") is not None:
        tags = tags[: int(arguments.text("limit") or 0) or None]
    if shape.is_own_table:
        output.write_table(("NAME", "TAG"), [(name, tag) for tag in tags])
        return 0
    shape.write([row({"Name": name, "Tag": tag}, None, ()) for tag in tags])
    return 0


def _keeper(filters: Filters) -> Callable[[FoundImage], bool]:
    stars = whole_number("--filter stars", filters.newest("stars") or "0", smallest=0)
    official = truth_of(filters, "is-official")
    automated = truth_of(filters, "is-automated")

    def keeps(image: FoundImage) -> bool:
        return (
            image.star_count >= stars
            and official in {None, image.is_official}
            and automated in {None, image.is_automated}
        )

    return keeps


def _described(image: FoundImage, *, is_whole: bool) -> str:
    text = " ".join(image.description.split())
    return text if is_whole else output.shorten(text, _DESCRIPTION_WIDTH)


def _row(image: FoundImage, *, is_whole: bool) -> Row:
    return row(
        {
            "Name": image.name,
            "Description": _described(image, is_whole=is_whole),
            "StarCount": str(image.star_count),
            "IsOfficial": "true" if image.is_official else "false",
            "IsAutomated": "true" if image.is_automated else "false",
        },
        document(image),
        (),
    )


async def delete(engine: EngineApi, arguments: Arguments) -> int:
    """Delete images from registries."""

    async def delete_one(reference: str) -> None:
        digest = await engine.delete_remote_image(reference)
        output.write_line(f"Deleted: {reference} ({digest})")

    return await for_each(arguments.operands, delete_one)


async def login(engine: EngineApi, arguments: Arguments) -> int:
    """Tell a registry who one is."""
    registry = arguments.operands[0] if arguments.operands else ""
    username, password = _given(arguments)
    if not username and not password:
        try:
            await engine.log_in(registry)
        except RegistryRefusedError:
            # Nobody is kept, or nobody whom it knows: as if for the first time.
            username = ""
        else:
            output.write_message("Authenticating with existing credentials...")
            output.write_line("Login Succeeded")
            return 0
    if not username or not password:
        username, password = _ask(username)
    result = await engine.log_in(registry, username=username, password=password)
    if result.is_plain:
        output.write_message(
            f"WARNING! Your password will be stored unencrypted in {result.stored_in}."
        )
        output.write_message(
            "hint: a credential helper (`credsStore` in that file) keeps it encrypted"
        )
    output.write_line("Login Succeeded")
    return 0


def _given(arguments: Arguments) -> tuple[str, str]:
    """Name and password as far as the command line has them."""
    username = arguments.text("username") or ""
    password = arguments.text("password") or ""
    if arguments.is_on("password-stdin"):
        if password:
            raise UsageError(
                "--password and --password-stdin are mutually exclusive", command="login"
            )
        if not username:
            raise UsageError(
                "the --password-stdin option requires --username to be set", command="login"
            )
        password = sys.stdin.read().rstrip("\r\n")
        if not password:
            raise InvalidInputError("standard input has no password")
    elif password:
        output.write_message(
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin."
        )
        if not username:
            raise UsageError("Must provide --username with --password", command="login")
    return username, password


def _ask(username: str) -> tuple[str, str]:
    """Ask the person; the password is not shown."""
    if not sys.stdin.isatty():
        raise InvalidInputError(
            "Cannot perform an interactive login from a non TTY device",
            hint="`lamella login -u NAME --password-stdin` reads the password from a pipe",
        )
    # The event loop would take note of the signal and let the question stand.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if not username:
            output.write_all(2, b"Username: ")
            username = sys.stdin.readline().strip()
        password = getpass.getpass("Password: ") if username else ""
    except EOFError:
        password = ""
    finally:
        signal.signal(signal.SIGINT, before)
    if not username:
        raise InvalidInputError("username is required")
    if not password:
        raise InvalidInputError("password is required")
    return username, password


async def logout(engine: EngineApi, arguments: Arguments) -> int:
    """Forget who one is to a registry."""
    registry = arguments.operands[0] if arguments.operands else ""
    shown = registry or _DOCKER_HUB_KEY
    if await engine.log_out(registry):
        output.write_line(f"Removing login credentials for {shown}")
    else:
        output.write_line(f"Not logged in to {shown}")
    return 0


COMMANDS = (
    Command(
        "delete",
        "NAME:TAG|NAME@DIGEST...",
        "Delete images from a registry, with every tag that leads to them; what is here stays.",
        delete,
        (),
        (1, None),
        only_looks=True,
        details=(
            "Many registries delete nothing unless they are told to, and free the space later.",
        ),
    ),
    Command(
        "search",
        "TERM",
        "Find images on Docker Hub; HOST/TERM looks in another registry.",
        search,
        (
            Option("filter", "f", "KEY=VALUE", f"Only these: {', '.join(_FILTER_KEYS)}", True),
            FORMAT,
            Option("limit", "", "NUMBER", "How many at most (25)"),
            Option("list-tags", "", "", "The tags of the repository TERM, instead"),
            NO_TRUNCATION,
        ),
        (1, 1),
        only_looks=True,
    ),
    Command(
        "login",
        "[REGISTRY]",
        "Tell a registry who you are; Docker Hub without a name.",
        login,
        (
            Option("username", "u", "NAME", "Who you are"),
            Option("password", "p", "PASSWORD", "Your password; others on this host may see it"),
            Option("password-stdin", "", "", "Read the password from standard input"),
        ),
        (0, 1),
        only_looks=True,
    ),
    Command(
        "logout",
        "[REGISTRY]",
        "Forget who you are to a registry; Docker Hub without a name.",
        logout,
        (),
        (0, 1),
        only_looks=True,
    ),
)
