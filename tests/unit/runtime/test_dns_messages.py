"""Messages of DNS: that nothing but a question is read as one, and that what we write is sound."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.dns_messages import (
    AAAA,
    BadQueryError,
    Record,
    answer_code,
    name_of,
    read_query,
    reversed_address,
    truncated,
    with_id,
    write_answer,
    write_name,
    write_query,
)

labels = st.lists(st.binary(min_size=1, max_size=63), max_size=10).filter(
    lambda found: sum(map(len, found)) + len(found) + 1 <= 255
)
words = st.integers(0, 0xFFFF)


def question(name, kind=1, *, query_id=7, flags=0x100, extension=b""):
    header = struct.pack("!HHHHHH", query_id, flags, 1, 0, 0, 1 if extension else 0)
    return header + write_name(tuple(name)) + struct.pack("!HH", kind, 1) + extension


def extension(size, flags=0):
    return b"\0" + struct.pack("!HHIH", 41, size, flags, 0)


@given(name=labels, kind=words, query_id=words, size=words, dnssec=st.booleans())
def test_a_question_is_read_as_it_was_written_and_passed_on_the_same(
    name, kind, query_id, size, dnssec
):
    message = question(
        name, kind, query_id=query_id, extension=extension(size, 0x8000 if dnssec else 0)
    )

    query = read_query(message)
    onward = read_query(write_query(query, 0x1234))

    assert query.name == onward.name == tuple(name)
    assert query.kind == onward.kind == kind
    assert (query.query_id, onward.query_id) == (query_id, 0x1234)
    assert query.is_dnssec_wanted == onward.is_dnssec_wanted == dnssec
    assert query.udp_bytes == min(max(size, 512), 4096)
    assert onward.udp_bytes <= 1232


@given(st.binary(max_size=600))
def test_no_bytes_do_anything_but_be_read_or_refused(message):
    said = b""
    query = None
    try:
        query = read_query(message)
    except BadQueryError as error:
        said = error.answer
    if query is not None:
        assert write_query(query, 1)[12:].startswith(query.question)
    elif said:
        assert said[:2] == message[:2]
        assert len(said) <= len(message) + 11


@given(st.data())
def test_a_damaged_question_is_read_or_refused(data):
    message = bytearray(question([b"web", b"example"], extension=extension(1232)))
    for _damage in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(message) - 1))
        message[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not message:
            return
    try:
        query = read_query(bytes(message))
    except BadQueryError:
        return
    again = read_query(write_query(query, query.query_id))
    assert (again.name, again.kind, again.flags) == (query.name, query.kind, query.flags)


@given(name=labels, answer=st.binary(max_size=300))
def test_no_answer_of_a_server_does_more_than_be_taken_or_not(name, answer):
    query = read_query(question(name))
    assert answer_code(query, 7, answer) in {None, *range(16)}


def test_only_what_answers_our_question_is_taken():
    query = read_query(question([b"Web"]))
    right = struct.pack("!HHHHHH", 9, 0x8183, 1, 0, 0, 0) + query.question

    assert answer_code(query, 9, right) == 3
    assert answer_code(query, 9, right.replace(b"Web", b"wEB")) == 3
    assert answer_code(query, 8, right) is None
    assert answer_code(query, 9, right.replace(b"Web", b"Wes")) is None
    assert answer_code(query, 9, right[:2] + b"\1" + right[3:]) is None
    assert answer_code(query, 9, right[:2] + b"\xa1" + right[3:]) is None
    # Without the question it can only say that it was not understood.
    bare = struct.pack("!HHHHHH", 9, 0x8180, 0, 0, 0, 0)
    assert answer_code(query, 9, bare) is None
    assert answer_code(query, 9, bare[:3] + b"\5" + bare[4:]) == 5


def test_an_answer_comes_back_under_the_id_and_in_the_letters_of_the_question():
    query = read_query(question([b"WeB"], query_id=77))
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + b"\1\2\3\4"
    answer = struct.pack("!HHHHHH", 9, 0x8180, 1, 1, 0, 0) + query.question.lower() + record

    assert with_id(answer, query) == b"\0\x4d" + answer[2:12] + query.question + record
    bare = struct.pack("!HHHHHH", 9, 0x8185, 0, 0, 0, 0)
    assert with_id(bare, query)[:4] == b"\0\x4d\x81\x85"


@given(count=st.integers(0, 200), most_bytes=st.integers(512, 4096), has_extension=st.booleans())
def test_an_answer_never_passes_its_bound_and_says_what_it_left_out(
    count, most_bytes, has_extension
):
    more = extension(4096) if has_extension else b""
    query = read_query(question([b"web"], AAAA, extension=more))
    records = tuple(Record(kind=AAAA, content=bytes(16)) for _record in range(count))

    answer = write_answer(query, 0, records, most_bytes=most_bytes)

    told = struct.unpack_from("!HHHHHH", answer)
    assert len(answer) <= most_bytes
    assert bool(told[1] & 0x200) == (told[3] < count)
    assert told[5] == has_extension
    assert len(answer) == 12 + 9 + 28 * told[3] + 11 * has_extension
    assert struct.unpack_from("!H", truncated(answer, query), 2)[0] & 0x200


@pytest.mark.parametrize("text", ["10.77.0.2", "fd00::2", "::", "255.255.255.255"])
def test_an_address_is_found_behind_its_reverse_name(text):
    address = ipaddress.ip_address(text)
    assert reversed_address(name_of(address.reverse_pointer)) == address.packed
    assert reversed_address(name_of(address.reverse_pointer.upper())) == address.packed


@pytest.mark.parametrize(
    "name",
    [
        (b"1", b"2", b"3", b"in-addr", b"arpa"),
        (b"1", b"2", b"3", b"4", b"5", b"in-addr", b"arpa"),
        (b"1", b"2", b"3", b"256", b"in-addr", b"arpa"),
        (b"1", b"2", b"3", b"\0", b"in-addr", b"arpa"),
        (b"1", b"2", b"3", b"\xff", b"in-addr", b"arpa"),
        (b"1", b"2", b"3.4", b"in-addr", b"arpa"),
        (*[b" "] * 32, b"ip6", b"arpa"),
        (*[b"g"] * 32, b"ip6", b"arpa"),
        (*[b"1"] * 31, b"ip6", b"arpa"),
        (),
    ],
)
def test_no_other_name_is_an_address(name):
    assert reversed_address(name) is None


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "a.", ".a", "x" * 64, "\ud800" * 64, "a." * 130 + "a"]
)
def test_what_no_question_can_have_is_no_name(text):
    assert name_of(text) is None
