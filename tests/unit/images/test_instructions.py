"""The instructions of `commit --change`: each changes what it says, and malformed ones say why."""

import pytest

from engine.errors import InvalidInputError
from engine.images.instructions import apply_changes
from engine.oci.documents import ConfigSection, Empty, HealthCheckDocument, encode_document


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', {"cmd": ("a", "b c")}),
        ("CMD a | b", {"cmd": ("/bin/sh", "-c", "a | b")}),
        ("CMD [not json]", {"cmd": ("/bin/sh", "-c", "[not json]")}),
        ('entrypoint ["/init"]', {"entrypoint": ("/init",)}),
        ("ENV A=1 B='x y' C=p\\ q", {"env": ("A=1", "B=x y", "C=p q")}),
        ("ENV A one two", {"env": ("A=one two",)}),
        ("EXPOSE 80 53/udp", {"exposed_ports": {"80/tcp": Empty(), "53/udp": Empty()}}),
        ("EXPOSE 80-81", {"exposed_ports": {"80/tcp": Empty(), "81/tcp": Empty()}}),
        ('LABEL a=1 "b c"="d e"', {"labels": {"a": "1", "b c": "d e"}}),
        ("ONBUILD RUN make", {"on_build": ("RUN make",)}),
        ("USER web:www", {"user": "web:www"}),
        ('VOLUME ["/a", "/b"]', {"volumes": {"/a": Empty(), "/b": Empty()}}),
        ("VOLUME /a /b", {"volumes": {"/a": Empty(), "/b": Empty()}}),
        ("WORKDIR /srv", {"working_dir": "/srv"}),
        ("STOPSIGNAL SIGINT", {"stop_signal": "SIGINT"}),
        ("HEALTHCHECK NONE", {"healthcheck": HealthCheckDocument(test=("NONE",))}),
        (
            "HEALTHCHECK --interval=1m30s --retries=4 CMD curl localhost",
            {
                "healthcheck": HealthCheckDocument(
                    test=("CMD-SHELL", "curl localhost"), interval=90 * 10**9, retries=4
                )
            },
        ),
        (
            'HEALTHCHECK CMD ["curl", "localhost"]',
            {"healthcheck": HealthCheckDocument(test=("CMD", "curl", "localhost"))},
        ),
    ],
)
def test_an_instruction_changes_what_it_says(change, expected):
    assert apply_changes(ConfigSection(), (change,)) == ConfigSection(**expected)


def test_later_instructions_go_on_from_earlier_ones():
    section = ConfigSection(env=("A=0", "Z=9"), working_dir="/srv")
    changed = apply_changes(section, ("ENV A=1\nENV B=2", "WORKDIR app/../web"))
    assert changed.env == ("A=1", "Z=9", "B=2")
    assert changed.working_dir == "/srv/web"


def test_what_is_written_has_dockers_names():
    section = apply_changes(ConfigSection(), ("ONBUILD RUN make", "HEALTHCHECK CMD true"))
    assert encode_document(section) == (
        b'{"Healthcheck":{"Test":["CMD-SHELL","true"]},"OnBuild":["RUN make"]}'
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("RUN make", "run is not a valid change command"),
        ("ENV", "it needs an argument"),
        ("ENV A", "must have two arguments"),
        ("ENV A=1 B", "Must be of the form: name=value"),
        ("ENV A='1", "no closing quotation"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("EXPOSE 70000", "invalid range format"),
        ("ONBUILD ONBUILD RUN x", "isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("USER a b", "exactly one argument"),
        ("STOPSIGNAL SIGNOTHING", "STOPSIGNAL"),
        ("HEALTHCHECK --interval=soon CMD x", "no duration"),
        ("HEALTHCHECK --color=red CMD x", "Unknown flag: color"),
        ("HEALTHCHECK WHAT x", "Unknown type 'WHAT'"),
        ("HEALTHCHECK CMD", "Missing command"),
    ],
)
def test_a_malformed_instruction_says_why(change, text):
    with pytest.raises(InvalidInputError) as caught:
        apply_changes(ConfigSection(), (change,))
    assert text.lower() in str(caught.value).lower()
