"""`build`: where results go, and which options of Docker's are refused and why."""

import json

import pytest

from tui.cli.build import BUILD

# `docker build --help` of Docker 20.10 (its first builder) and of buildx 0.30.
DOCKERS = """
add-host allow annotation attest build-arg build-context builder cache-from cache-to call
cgroup-parent check compress cpu-period cpu-quota cpu-shares cpuset-cpus cpuset-mems debug
disable-content-trust file force-rm iidfile isolation label load memory memory-swap metadata-file
network no-cache no-cache-filter output platform policy progress provenance pull push quiet rm sbom
secret security-opt shm-size squash ssh stream tag target ulimit
"""


@pytest.fixture
def context(engine, tmp_path):
    engine.add_image("starter:latest")
    (tmp_path / "Dockerfile").write_text("FROM starter:latest\nRUN echo hello\n")
    return str(tmp_path)


def test_every_option_of_docker_is_known():
    assert set(DOCKERS.split()) <= {option.name for option in BUILD.options}


@pytest.mark.parametrize("option", [one for one in BUILD.options if one.is_hidden])
def test_what_is_refused_says_why_and_what_to_do(lamella, context, builds_asked_for, option):
    words = [f"--{option.name}=anything"] if option.value else [f"--{option.name}"]
    if option.name in {"rm", "force-rm", "disable-content-trust"}:
        words = [f"--{option.name}=false"]
    code, out, err = lamella("build", *words, context)

    assert (code != 0, out, builds_asked_for) == (True, "", [])
    sentence, remedy = err.strip().split("\n")
    assert sentence.startswith(f"Error: --{option.name}: ")
    assert len(remedy) > 10


@pytest.mark.parametrize(
    "word",
    ["--rm", "--force-rm", "--provenance=false", "--sbom=false", "--compress=false", "--load"],
)
def test_what_asks_for_what_is_done_anyway_is_taken(lamella, context, word):
    assert lamella("build", word, context)[0] == 0


def test_squash_and_caches_reach_the_engine(lamella, context, builds_asked_for):
    lamella(
        "build", "--squash", "--cache-from", "one", "--cache-from", "type=registry,ref=r/two:1",
        context,
    )  # fmt: skip

    assert builds_asked_for[0].squashes
    assert builds_asked_for[0].cache_sources == ("one", "r/two:1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cache-from", "type=gha"), "--cache-from type=gha is no image"),
        (("--push",), "tag is needed when pushing"),
        (("-o", "type=tar"), "needs dest"),
        (("-o", "type=local,dest=-"), "type=tar,dest=-"),
        (("-o", "type=cacheonly"), "type is local, tar, oci, docker, image or registry"),
        (("-o", "type=image,compression=zstd"), "does not take compression"),
        (("-o", "-", "-o", "type=oci"), "only one --output"),
        (("--call", "outline"), "--call is one of build, check"),
    ],
)
def test_what_cannot_be_says_why(lamella, context, builds_asked_for, words, said):
    code, out, err = lamella("build", *words, context)

    assert (code != 0, out, builds_asked_for) == (True, "", [])
    assert said in err


def test_call_check_is_check(lamella, context, builds_asked_for):
    assert lamella("build", "--call", "check", context)[:2] == (
        0,
        "Check complete, no warnings found.\n",
    )
    assert not builds_asked_for


def test_push_gives_every_name_to_its_registry(lamella, engine, context, monkeypatch):
    pushed = []
    push = engine.push_image

    async def note(reference, **options):
        pushed.append(reference)
        return await push(reference, **options)

    monkeypatch.setattr(engine, "push_image", note)
    code, out, err = lamella("build", "--push", "-t", "r.example/a:1", "-t", "r.example/b", context)

    assert code == 0, err
    assert pushed == ["r.example/a:1", "r.example/b:latest"]
    assert out.startswith("sha256:")
    assert len(out.splitlines()) == 1


def test_metadata_says_ids_and_names(lamella, context, tmp_path):
    path = tmp_path / "metadata"
    _, out, _ = lamella("build", "-t", "web", "--metadata-file", str(path), context)

    document = json.loads(path.read_text())
    assert document["containerimage.config.digest"] == out.strip()
    assert document["image.name"] == "web:latest"
