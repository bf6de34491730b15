"""Container names: what is allowed, and drawn ones such as `brave_lamport`."""

from __future__ import annotations

import os
import re

from engine.errors import InvalidInputError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LONGEST_NAME = 255
_ID_BYTES = 32

_ADJECTIVES = tuple(
    """
able agile amber ample apt bold brave bright brisk busy calm candid clear clever cool cosy crisp
curious dapper daring deft eager early easy elegant fair fancy fast fervent fine firm focused fond
frank fresh gentle glad golden good grand happy hardy honest hopeful humble ideal jolly jovial keen
kind lively loyal lucid mellow merry modest neat nice nifty nimble noble open patient polite prompt
proud quick quiet rapid ready relaxed serene sharp shiny silent sleepy smart snug solid spry steady
stoic sunny sweet swift tender tidy tough trusting upbeat vast vibrant vivid warm wise witty young
zealous zen
""".split()  # noqa: SIM905
)

_SURNAMES = tuple(
    """
aho allen amdahl antonelli babbage backus bartik bell berners boole borg brooks cerf chandrasekhar
clarke codd conway cray curie dahl darwin davies dijkstra dirac driscoll easley einstein engelbart
euler faraday feistel fermat fermi feynman floyd franklin galileo gauss goldberg goodall gosling
gray hamilton hamming hawking hellman hertz hilbert hoare hofstadter holberton hopper huffman
iverson jang jennings jepsen johnson joy kahan kapitsa kay keller kepler kernighan kilby knuth
lamarr lamport leavitt liskov lovelace lumiere maxwell mayer mccarthy mcclintock mcilroy mclean
meitner metcalfe milner minsky moore morse naur neumann newton nightingale noether nygaard pascal
pasteur payne perlman pike planck poincare postel ptolemy ramanujan raman rhodes ritchie rivest
rosen rubin sammet shannon shaw shirley sinoussi snyder spence stallman stonebraker sutherland
swirles tarjan tesla thompson torvalds turing villani wescoff wilbur wiles wilkes wing wirth
wozniak wright yalow yonath zhukovsky
""".split()  # noqa: SIM905
)


def check_container_name(name: str) -> None:
    """Refuse a name that Docker refuses.

    Raises:
        InvalidInputError: It is too short, too long, or has other characters.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            hint="A name has at least two characters and begins with a letter or a digit",
        )
    if len(name) > _LONGEST_NAME:
        raise InvalidInputError(
            f"Invalid container name: {len(name)} characters, at most {_LONGEST_NAME} are allowed"
        )


def draw_container_name(attempt: int = 0) -> str:
    """Draw a name at random; from the third attempt on with a number, so that one is found."""
    name = f"{_ADJECTIVES[_draw(len(_ADJECTIVES))]}_{_SURNAMES[_draw(len(_SURNAMES))]}"
    return name if attempt < 2 else f"{name}{_draw(10 ** (attempt // 2 + 1))}"


def _draw(count: int) -> int:
    """A number below `count`. Names are no secrets: `random` takes longer to load than to draw."""
    return int.from_bytes(os.urandom(8), "big") % count


def draw_container_id() -> str:
    """Draw an id: 64 hexadecimal digits.

    Not all digits in the first twelve: they are the host name, and a host name that reads as a
    number confuses resolvers (moby stringid.GenerateRandomID).
    """
    while True:
        container_id = os.urandom(_ID_BYTES).hex()
        if not container_id[:12].isdigit():
            return container_id
