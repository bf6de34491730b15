import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInputError
from engine.oci.documents import Descriptor, Platform
from engine.oci.platforms import choose_manifests, parse_platform, platform_rank


def descriptor(text):
    return Descriptor(digest=text, size=1, platform=parse_platform(text))


def chosen(wanted, *offered):
    found = choose_manifests(map(descriptor, offered), parse_platform(wanted))
    return [one.digest for one in found]


def test_a_variant_takes_itself_first_then_older_ones_and_never_a_newer_one():
    offered = ("linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8")

    assert chosen("linux/arm/v7", *offered) == ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]
    assert chosen("linux/arm/v6", *offered) == ["linux/arm/v6", "linux/arm/v5"]
    assert chosen("linux/arm", *offered)[0] == "linux/arm/v7"


def test_a_platform_without_variant_is_the_base_of_its_architecture():
    assert chosen("linux/arm64/v8", "linux/arm64") == ["linux/arm64"]
    assert chosen("linux/arm64", "linux/arm64/v8") == ["linux/arm64/v8"]
    assert chosen("linux/amd64/v3", "linux/amd64/v4", "linux/amd64", "linux/amd64/v2") == [
        "linux/amd64/v2",
        "linux/amd64",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", Platform(os="linux", architecture="amd64")),
        ("Linux/x86_64", Platform(os="linux", architecture="amd64")),
        ("arm64", Platform(os="linux", architecture="arm64")),
        ("linux/aarch64", Platform(os="linux", architecture="arm64")),
        ("linux/arm/v7", Platform(os="linux", architecture="arm", variant="v7")),
    ],
)
def test_a_platform_is_read_in_the_words_of_go_and_of_uname(text, expected):
    assert parse_platform(text) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/amd 64", "linux/-"])
def test_a_text_that_is_no_platform_is_refused(text):
    with pytest.raises(InvalidInputError, match="invalid platform"):
        parse_platform(text)


@given(st.text(max_size=30), st.text(max_size=5), st.text(max_size=5))
def test_no_platform_of_an_image_is_too_odd(system, architecture, variant):
    image = Platform(os=system, architecture=architecture, variant=variant)
    for wanted in ("linux/amd64", "linux/arm/v7", "linux/mips64/hard"):
        platform_rank(image, parse_platform(wanted))
