import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.registry.challenges import Challenge, parse_challenges


def parsed(*headers):
    return [(one.scheme, dict(one.parameters)) for one in parse_challenges(headers)]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/token",service="a b",scope="repository:x:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/token",
                        "service": "a b",
                        "scope": "repository:x:pull,push",
                    },
                )
            ],
        ),
        ("BEARER Realm=x", [("bearer", {"realm": "x"})]),
        ('Bearer realm = "x" , service = y', [("bearer", {"realm": "x", "service": "y"})]),
        (r'Bearer realm="a\"b\\c"', [("bearer", {"realm": 'a"b\\c'})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Negotiate abc==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        (
            'Bearer realm="x",scope="y",Basic realm="z"',
            [("bearer", {"realm": "x", "scope": "y"}), ("basic", {"realm": "z"})],
        ),
        (",, Basic realm=x ,,", [("basic", {"realm": "x"})]),
        ("Basic", [("basic", {})]),
        ("", []),
        # What is malformed ends the header, and what came before counts.
        ('Basic realm="x", Bearer realm="y', [("basic", {"realm": "x"}), ("bearer", {})]),
        ('Bearer realm="x" realm="y"', []),
        ("Bearer realm=x,realm=y", []),
        ("=x", []),
        ('"quoted"', []),
    ],
)
def test_challenges_are_read_as_rfc_9110_has_them(header, expected):
    assert parsed(header) == expected


def test_several_headers_are_as_good_as_one():
    assert parsed("Basic realm=x", "Bearer realm=y") == [
        ("basic", {"realm": "x"}),
        ("bearer", {"realm": "y"}),
    ]


def test_a_header_without_end_is_not_read():
    assert parsed("Basic realm=x," * 2000) == []


@given(st.lists(st.text(), max_size=3))
def test_no_text_is_too_odd(headers):
    parse_challenges(headers)


_PIECES = st.sampled_from(
    ["Basic", "Bearer", "realm", "=", '"', "\\", ",", " ", "\t", "a", "\x00", "é", "abc=="]
)


@given(st.lists(_PIECES, max_size=30).map("".join))
def test_no_order_of_its_pieces_is_too_odd(header):
    for challenge in parse_challenges([header]):
        assert challenge.scheme
        assert challenge.scheme == challenge.scheme.lower()


_TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._~", min_size=1, max_size=10)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@given(st.dictionaries(_TOKENS, _VALUES, min_size=1, max_size=5), _TOKENS)
def test_what_is_written_as_it_should_be_is_read_back(parameters, scheme):
    def quote(text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    header = scheme + " " + ", ".join(f"{name}={quote(text)}" for name, text in parameters.items())

    assert parse_challenges([header]) == (Challenge(scheme=scheme, parameters=parameters),)
