"""Variables in instructions that are about to run."""

import pytest

from engine.build.created_by import files_text
from engine.build.expansion import Expander
from engine.build.parser import parse_dockerfile
from engine.build.spans import Source
from engine.errors import DockerfileError

VARIABLES = {"a": "1", "dir": "/d e", "ports": "80 81", "sum": "sha256:00"}


def instruction_and_expander(text, *, top=""):
    data = f"{top}FROM scratch\n{text}".encode()
    dockerfile = parse_dockerfile(data, name="Dockerfile")
    (instruction,) = dockerfile.stages[0].instructions
    source = Source(dockerfile.name, list(dockerfile.lines))
    return instruction, Expander(source, VARIABLES, escape=dockerfile.escape)


def test_copy_is_expanded_but_for_its_stage_and_what_it_leaves_out():
    copy, expander = instruction_and_expander(
        'COPY --from=x --chown=$a --chmod=${a}55 --exclude=$a "$a" b$missing $dir/'
    )
    expanded = expander.files(copy)

    assert [word.text for word in expanded.sources] == ["1", "b"]
    assert expanded.destination.text == "/d e/"
    assert (expanded.owner.text, expanded.mode.text) == ("1", "155")
    assert expanded.excludes[0].text == "$a"
    assert expanded.sources[0].span == copy.sources[0].span
    assert expander.used == {"a", "dir"}
    assert expander.unset == {"missing"}
    assert files_text(expanded) == "COPY --chown=1 --chmod=155 1 b /d e/ # buildkit"


def test_add_has_a_checksum_with_variables():
    add, expander = instruction_and_expander("ADD --checksum=$sum https://x /y")
    assert expander.files(add).checksum.text == "sha256:00"


def test_heredocs_are_expanded_unless_their_names_are_quoted():
    copy, expander = instruction_and_expander(
        "COPY <<A <<'B' /d/\nx=$a \\$a 'q' \"z\" `\nA\n$a\nB", top="# escape=`\n"
    )
    expanded = expander.files(copy)

    assert [each.body for each in expanded.heredocs] == ["x=1 $a 'q' \"z\" `\n", "$a\n"]
    assert files_text(expanded) == "COPY <<A <<B /d/ # buildkit"


def test_pairs_see_what_was_before_them():
    env, expander = instruction_and_expander("ENV a=2 b=$a ${a}c=$dir d=\"x y\"z'$e'")
    assert expander.pairs(env) == (("a", "2"), ("b", "1"), ("1c", "/d e"), ("d", "x yz$e"))


def test_a_name_that_comes_to_nothing_is_refused():
    env, expander = instruction_and_expander("ENV $missing=1")
    with pytest.raises(DockerfileError, match="can not be blank"):
        expander.pairs(env)


def test_ports_are_divided_when_they_are_expanded():
    expose, expander = instruction_and_expander("EXPOSE $ports/tcp")
    assert expander.texts(expose.ports[0]) == ("80", "81/tcp")


def test_mounts_have_values_and_know_what_they_are():
    run, expander = instruction_and_expander(
        "RUN --mount=type=cache,id=$a,target=$dir,mode=0${a}0,uid=$a,sharing=locked "
        "--mount=type=tmpfs,dst=/t,size=1.5m --mount=target=/b,rw --mount=type=secret,id=s x"
    )
    cache, tmpfs, bind, secret = (expander.mount(flag) for flag in run.mounts)

    assert (cache.kind, cache.identifier, cache.target) == ("cache", "1", "/d e")
    assert (cache.mode, cache.user, cache.group) == (0o10, 1, None)
    assert (cache.sharing, cache.is_read_only) == ("locked", False)
    assert (tmpfs.size_bytes, tmpfs.target) == (3 << 19, "/t")
    assert (bind.kind, bind.is_read_only) == ("bind", False)
    assert (secret.is_read_only, secret.is_required) == (True, False)


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("target=$missing", "mount target is required"),
        ("type=tmpfs,target=/a,size=$dir", "invalid value for size"),
        ("target=/a,mode=$a", 'mode not allowed for "bind"'),
        ("type=secret,id=$a,src=b", "both source and id"),
        ("type=secret", "one of source, target required"),
        ("type=secret,id=a,from=b", "should not have a from"),
        ("required,type=secret,id=a", "unexpected key 'required'"),
        ("type=cache,target=/a,sharing=alone", "unsupported sharing"),
        ("type=cache,target=/a,uid=-1", "invalid value -1 for uid"),
        ("type=bind,target=/a,ro=perhaps", "invalid value for readonly"),
        ("type=tmpfs,target=/a,env=b", "unexpected key 'env'"),
        ("target=/a,sharing=locked", "invalid cache sharing"),
        ('target="/a', "failed to parse csv"),
        ("target", "must be a key=value pair"),
    ],
)
def test_a_mount_that_means_nothing_is_refused(mount, reason):
    with pytest.raises(DockerfileError) as caught:  # noqa: PT012
        run, expander = instruction_and_expander(f"RUN --mount='{mount}' x")
        expander.mount(run.mounts[0])

    assert reason in caught.value.reason
    assert (caught.value.line, caught.value.column) == (2, 5)


def test_what_cannot_be_expanded_says_where():
    workdir, expander = instruction_and_expander("WORKDIR /a/${missing:?set it}")
    with pytest.raises(DockerfileError) as caught:
        expander.word(workdir.path)

    assert (caught.value.line, caught.value.column) == (2, 12)
    assert caught.value.reason == "missing: set it"
    assert "--build-arg missing=VALUE" in caught.value.expected
