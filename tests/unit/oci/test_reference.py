import pytest

from engine.errors import InvalidReferenceError
from engine.oci.reference import id_beginning, parse_reference

DIGEST = "sha256:" + "a" * 64

# What was typed: registry, repository, tag, and as people see it.
GOOD = [
    ("web", "docker.io", "library/web", "", "web:latest"),
    ("web:1.2", "docker.io", "library/web", "1.2", "web:1.2"),
    ("someone/web", "docker.io", "someone/web", "", "someone/web:latest"),
    ("docker.io/web", "docker.io", "library/web", "", "web:latest"),
    ("docker.io/library/web", "docker.io", "library/web", "", "web:latest"),
    ("index.docker.io/web", "docker.io", "library/web", "", "web:latest"),
    ("docker.io/library/a/b", "docker.io", "library/a/b", "", "library/a/b:latest"),
    ("localhost/web", "localhost", "web", "", "localhost/web:latest"),
    ("localhost:5000/web", "localhost:5000", "web", "", "localhost:5000/web:latest"),
    ("localhost:5000/web:a", "localhost:5000", "web", "a", "localhost:5000/web:a"),
    ("quay.io/a/b/c", "quay.io", "a/b/c", "", "quay.io/a/b/c:latest"),
    ("[::1]:5000/web", "[::1]:5000", "web", "", "[::1]:5000/web:latest"),
    ("Upper/web", "Upper", "web", "", "Upper/web:latest"),
    ("a__b/c-d.e--f", "docker.io", "a__b/c-d.e--f", "", "a__b/c-d.e--f:latest"),
    (f"web@{DIGEST}", "docker.io", "library/web", "", f"web@{DIGEST}"),
    (f"web:1@{DIGEST}", "docker.io", "library/web", "1", f"web:1@{DIGEST}"),
    ("web:" + "t" * 128, "docker.io", "library/web", "t" * 128, "web:" + "t" * 128),
    ("a" * 63, "docker.io", "library/" + "a" * 63, "", "a" * 63 + ":latest"),
]


@pytest.mark.parametrize(("text", "domain", "path", "tag", "familiar"), GOOD)
def test_a_name_is_taken_apart_as_docker_does(text, domain, path, tag, familiar):
    parsed = parse_reference(text)
    assert (parsed.domain, parsed.path, parsed.tag) == (domain, path, tag)
    assert parsed.familiar_name == familiar
    # What is shown leads back to the same image.
    assert parse_reference(familiar).canonical_name == parsed.canonical_name


BAD = [
    "",
    ":",
    ":latest",
    "web:",
    "web:-1",
    "web:.1",
    "web:" + "t" * 129,
    "web:a b",
    "Web",
    "someone/Web",
    "web@",
    "web@sha256:abc",
    f"web@{DIGEST}0",
    f"web@{DIGEST.upper()}",
    "web@sha512:" + "a" * 128,
    "a" * 64,
    "/web",
    "web/",
    "a//b",
    "a___b",
    "-web",
    "web-",
    "a..b",
    "..",
    "../web",
    "a/../b",
    "we\nb",
    "web\n",
    "web:1\n",
    "wéb",
    "web:٣",
    "\x00",
    "web\x1b[31m",
    "localhost:port/web",
    "a" * 256,
    "exa_mple.com/web",
    "http://quay.io/web",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_name_is_refused_with_the_reason(text):
    with pytest.raises(InvalidReferenceError) as caught:
        parse_reference(text)
    assert caught.value.reason
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("a", "a"),
        ("0123abcd", "0123abcd"),
        ("sha256:0123", "0123"),
        ("a" * 64, "a" * 64),
        ("a" * 65, None),
        ("", None),
        ("sha256:", None),
        ("ABC", None),
        ("web", None),
        ("%", None),
        ("a\n", None),
    ],
)
def test_the_beginning_of_an_id_is_hexadecimal_digits(text, digits):
    assert id_beginning(text) == digits
