"""DNS messages, as far as one who answers for a few names and passes the rest on reads them.

Every message is hostile. A question is read into a `Query`, and what is passed on is written anew
from that; of an answer from a server nothing is read but whether it is one to our question
(RFC 1035, 5452 section 9.1, 6891).
"""

from __future__ import annotations

import socket
import struct
from typing import TypeAlias

from engine.late_dataclasses import dataclass

A = 1
PTR = 12
AAAA = 28
OPT = 41
ANY = 255
IN = 1
_HIGHEST_DATA_KIND = 0x7F
"""Above it, up to 255, are kinds of questions and transactions that no resolver passes on."""

NO_ERROR = 0
FORMAT_ERROR = 1
SERVER_FAILURE = 2
NAME_ERROR = 3
NOT_IMPLEMENTED = 4
REFUSED = 5
_BAD_VERSION = 16

_HEADER = struct.Struct("!HHHHHH")
_TWO_WORDS = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_POINTED_RECORD = struct.Struct("!HHHIH")
_IS_ANSWER = 0x8000
_OPCODE = 0x7800
_IS_TRUNCATED = 0x0200
_IS_RECURSION_DESIRED = 0x0100
_IS_RECURSION_AVAILABLE = 0x0080
_IS_AUTHENTIC = 0x0020
_IS_CHECKING_DISABLED = 0x0010
_PASSED_ON = _IS_RECURSION_DESIRED | _IS_AUTHENTIC | _IS_CHECKING_DISABLED
_IS_DNSSEC_OK = 0x8000
_QUESTION_PLACE = _HEADER.size
_POINTER_TO_QUESTION = 0xC000 | _QUESTION_PLACE

_LONGEST_LABEL = 63
_LONGEST_NAME = 255
_MOST_ADDITIONAL = 4
_ADDRESS6_BYTES = 16
_LIFE_SECONDS = 1
"""Of our records: a container that is started again has another address."""
PLAIN_UDP_BYTES = 512
MOST_UDP_BYTES = 4096
OWN_UDP_BYTES = 1232
"""What we say that we take: no fragments on any link (dnsflagday.net/2020)."""

Name: TypeAlias = tuple[bytes, ...]


class BadQueryError(ValueError):
    """A message that is no question, or one that nobody here answers.

    Attributes:
        answer: What to say to it; empty for nothing.
    """

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__("no question")
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question.

    Attributes:
        query_id: To be in the answer.
        flags: RD, AD and CD as they came.
        name: The labels as they came, without the empty one at the end.
        kind: The type of records that is wanted.
        record_class: IN, mostly.
        question: The question's bytes: name, kind and class.
        udp_bytes: The longest answer over UDP that is taken.
        has_extension: An OPT record came, so that one is wanted in the answer (RFC 6891).
        is_dnssec_wanted: The DO bit of it.
    """

    query_id: int
    flags: int
    name: Name
    kind: int
    record_class: int
    question: bytes
    udp_bytes: int
    has_extension: bool
    is_dnssec_wanted: bool

    @property
    def lower_name(self) -> Name:
        """The labels in lower case, as names are compared."""
        return tuple(label.lower() for label in self.name)

    @property
    def is_passed_on(self) -> bool:
        """Whether others may be asked: no transfers, no transactions, no other classes."""
        is_data = 0 < self.kind <= _HIGHEST_DATA_KIND and self.kind != OPT
        return self.record_class == IN and (is_data or self.kind >= ANY)


def read_query(message: bytes) -> Query:
    """Read a question.

    Raises:
        BadQueryError: It is none; the error has what is to be said to it.
    """
    if len(message) < _HEADER.size:
        raise BadQueryError
    query_id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(message)
    if flags & _IS_ANSWER:
        # To answer an answer is how two servers are set upon each other.
        raise BadQueryError
    if flags & _OPCODE:
        raise BadQueryError(_bare_answer(query_id, flags, NOT_IMPLEMENTED))
    malformed = BadQueryError(_bare_answer(query_id, flags, FORMAT_ERROR))
    if questions != 1 or answers or authorities or additional > _MOST_ADDITIONAL:
        raise malformed
    name, place = _read_name(message, _QUESTION_PLACE, malformed)
    if place + 4 > len(message):
        raise malformed
    kind, record_class = _TWO_WORDS.unpack_from(message, place)
    place += 4
    question = message[_QUESTION_PLACE:place]
    udp_bytes = PLAIN_UDP_BYTES
    has_extension = is_dnssec_wanted = False
    for _record in range(additional):
        owner, place = _read_name(message, place, malformed)
        if place + _RECORD.size > len(message):
            raise malformed
        record_kind, size, extended, length = _RECORD.unpack_from(message, place)
        place += _RECORD.size + length
        if place > len(message):
            raise malformed
        if record_kind != OPT:
            continue
        if has_extension or owner:
            raise malformed
        has_extension = True
        udp_bytes = min(max(size, PLAIN_UDP_BYTES), MOST_UDP_BYTES)
        is_dnssec_wanted = bool(extended & _IS_DNSSEC_OK)
        if extended >> 16 & 0xFF:
            header = _answer_header(query_id, flags, NO_ERROR, answers=0, has_extension=True)
            raise BadQueryError(header + question + _extension(_BAD_VERSION))
    if place != len(message):
        raise malformed
    return Query(
        query_id=query_id,
        flags=flags & _PASSED_ON,
        name=name,
        kind=kind,
        record_class=record_class,
        question=question,
        udp_bytes=udp_bytes,
        has_extension=has_extension,
        is_dnssec_wanted=is_dnssec_wanted,
    )


def _read_name(message: bytes, place: int, malformed: BadQueryError) -> tuple[Name, int]:
    """The labels of a name and the place behind it. Nothing can be pointed to that came before."""
    labels: list[bytes] = []
    start = place
    while place < len(message):
        length = message[place]
        place += 1
        if length == 0:
            return tuple(labels), place
        if length > _LONGEST_LABEL or place + length > len(message):
            break
        labels.append(message[place : place + length])
        place += length
        if place - start >= _LONGEST_NAME:
            break
    raise malformed


def write_query(query: Query, query_id: int) -> bytes:
    """The same question with an id of our own, and with nothing in it that we have not read."""
    header = _HEADER.pack(query_id, query.flags, 1, 0, 0, int(query.has_extension))
    message = header + query.question
    if not query.has_extension:
        return message
    extended = _IS_DNSSEC_OK if query.is_dnssec_wanted else 0
    size = min(query.udp_bytes, OWN_UDP_BYTES)
    return message + b"\0" + _RECORD.pack(OPT, size, extended, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record about the name that was asked for.

    Attributes:
        kind: A, AAAA or PTR.
        content: As it is on the wire, nothing in it compressed.
    """

    kind: int
    content: bytes


def write_answer(
    query: Query,
    code: int,
    records: tuple[Record, ...] = (),
    *,
    most_bytes: int,
    is_truncated: bool = False,
) -> bytes:
    """An answer of our own; what has no place is left out, and said to be."""
    extension = _extension(0) if query.has_extension else b""
    room = most_bytes - _HEADER.size - len(query.question) - len(extension)
    parts = []
    for record in records:
        part = _POINTED_RECORD.pack(
            _POINTER_TO_QUESTION, record.kind, IN, _LIFE_SECONDS, len(record.content)
        )
        room -= len(part) + len(record.content)
        if room < 0:
            break
        parts.append(part + record.content)
    header = _answer_header(
        query.query_id,
        query.flags,
        code,
        answers=len(parts),
        has_extension=query.has_extension,
        is_truncated=is_truncated or room < 0,
    )
    return header + query.question + b"".join(parts) + extension


def _answer_header(
    query_id: int,
    flags: int,
    code: int,
    *,
    answers: int,
    has_extension: bool,
    is_truncated: bool = False,
) -> bytes:
    told = _IS_ANSWER | _IS_RECURSION_AVAILABLE | code
    told |= flags & (_IS_RECURSION_DESIRED | _IS_CHECKING_DISABLED)
    told |= _IS_TRUNCATED if is_truncated else 0
    return _HEADER.pack(query_id, told, 1, answers, 0, int(has_extension))


def _bare_answer(query_id: int, flags: int, code: int) -> bytes:
    told = _IS_ANSWER | flags & (_OPCODE | _IS_RECURSION_DESIRED) | code
    return _HEADER.pack(query_id, told, 0, 0, 0, 0)


def _extension(code: int) -> bytes:
    return b"\0" + _RECORD.pack(OPT, OWN_UDP_BYTES, (code >> 4) << 24, 0)


def answer_code(query: Query, query_id: int, message: bytes) -> int | None:
    """The code of a server's answer to a question that we sent; None if it is none.

    An error may come without the question, as from servers that cannot read it.
    """
    if len(message) < _HEADER.size:
        return None
    found_id, flags, questions, *_counts = _HEADER.unpack_from(message)
    if found_id != query_id or not flags & _IS_ANSWER or flags & _OPCODE:
        return None
    code = int(flags) & 0xF
    if questions == 0 and code in {FORMAT_ERROR, NOT_IMPLEMENTED, REFUSED}:
        return code
    end = _QUESTION_PLACE + len(query.question)
    if questions != 1 or message[_QUESTION_PLACE:end].lower() != query.question.lower():
        return None
    return code


def with_id(message: bytes, query: Query) -> bytes:
    """A server's answer as the one to the question as it came."""
    if _HEADER.unpack_from(message)[2] == 0:
        return write_answer(query, message[3] & 0xF, most_bytes=PLAIN_UDP_BYTES)
    # With the letters as they were asked for: some compare them.
    rest = message[_QUESTION_PLACE + len(query.question) :]
    return query.query_id.to_bytes(2) + message[2:_QUESTION_PLACE] + query.question + rest


def truncated(message: bytes, query: Query) -> bytes:
    """An answer that is too long for UDP, as one that says so and has nothing else."""
    return write_answer(query, message[3] & 0xF, most_bytes=PLAIN_UDP_BYTES, is_truncated=True)


def name_of(text: str) -> Name | None:
    """A text such as `web.backend` as labels in lower case; None if no question can have it."""
    labels = tuple(text.lower().encode(errors="replace").split(b"."))
    if not all(0 < len(label) <= _LONGEST_LABEL for label in labels):
        return None
    return labels if sum(map(len, labels)) + len(labels) + 1 <= _LONGEST_NAME else None


def write_name(name: Name) -> bytes:
    """A name as it is in a record."""
    return b"".join(bytes([len(label)]) + label for label in name) + b"\0"


def reversed_address(name: Name) -> bytes | None:
    """The address, as bytes, that a name below in-addr.arpa or ip6.arpa stands for."""
    labels = tuple(label.lower() for label in name)
    try:
        if labels[4:] == (b"in-addr", b"arpa"):
            return socket.inet_pton(socket.AF_INET, b".".join(labels[3::-1]).decode())
        if labels[32:] == (b"ip6", b"arpa") and all(len(label) == 1 for label in labels[:32]):
            packed = bytes.fromhex(b"".join(labels[31::-1]).decode())
            return packed if len(packed) == _ADDRESS6_BYTES else None
    except (ValueError, OSError):
        pass
    return None
