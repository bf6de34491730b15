"""`build` and `builder`: what is asked of the engine, and what is said of a build."""

import pytest

from engine.types import BuildRequest, CacheReasonKind

DOCKERFILE = "FROM starter:latest\nRUN echo hello\n"


@pytest.fixture
def context(engine, tmp_path):
    engine.add_image("starter:latest")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def test_a_build_says_its_steps_and_prints_the_id(lamella, context):
    code, out, err = lamella("build", "-t", "web", str(context))

    assert code == 0
    assert out.startswith("sha256:")
    assert "#1 [1/2] FROM starter:latest\n" in err
    assert "#2 [2/2] RUN echo hello\n" in err
    assert " hello\n" in err
    assert "Tagged web:latest\n" in err


def test_the_second_build_says_that_it_did_nothing(lamella, context):
    lamella("build", str(context))
    _, _, err = lamella("build", str(context))

    assert "#2 CACHED\n" in err
    assert "1 of 2 steps cached" in err


def test_a_step_that_is_run_says_why(lamella, context):
    _, _, err = lamella("build", str(context))

    assert "#2 not cached: no earlier build had RUN echo hello\n" in err
    assert CacheReasonKind.FIRST_BUILD.value == "first build"


def test_quiet_prints_the_id_alone(lamella, context):
    code, out, err = lamella("build", "-q", str(context))

    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1


def test_a_failure_shows_the_place_and_what_was_written(lamella, context):
    (context / "Dockerfile").write_text("FROM starter:latest\nRUN echo hello\nRUN exit 3\n")
    code, out, err = lamella("build", "-q", str(context))

    assert (code, out) == (1, "")
    assert "Dockerfile:3\n" in err
    assert "   3 | >>> RUN exit 3\n" in err
    assert "exit code: 3" in err


def test_every_option_reaches_the_engine(lamella, context, builds_asked_for, monkeypatch, tmp_path):
    monkeypatch.setenv("FROM_HERE", "value")
    monkeypatch.delenv("NOT_HERE", raising=False)
    (tmp_path / "other").mkdir()
    lamella(
        "build", "-t", "a", "-t", "b:2", "--target", "0", "--build-arg", "A=1",
        "--build-arg", "FROM_HERE", "--build-arg", "NOT_HERE", "--label", "k=v", "--no-cache",
        "--no-cache-filter", "one", "--pull", "--build-context", f"c={tmp_path}/other",
        "--secret", "id=s,env=FROM_HERE", "--secret", f"id=f,src={context}/Dockerfile",
        "--network", "none", "--add-host", "h:1.2.3.4", "--shm-size", "1m",
        "--ulimit", "nofile=5:6", "--platform", "linux/amd64", "--timestamp", "7",
        "--parallel", "3", str(context),
    )  # fmt: skip

    request = builds_asked_for[0]
    assert request.context == context
    assert request.names == ("a", "b:2")
    assert (request.target, request.network, request.platform) == ("0", "none", "linux/amd64")
    assert request.arguments == (("A", "1"), ("FROM_HERE", "value"))
    assert request.labels == (("k", "v"),)
    assert (request.uses_cache, request.uncached_stages, request.pulls) == (False, ("one",), True)
    assert [(one.name, one.source) for one in request.named_contexts] == [
        ("c", f"{tmp_path}/other"),
    ]  # fmt: skip
    assert [(one.secret_id, one.value) for one in request.secrets] == [("s", b"value"), ("f", b"")]
    assert request.secrets[1].path == context / "Dockerfile"
    assert request.extra_hosts == (("h", "1.2.3.4"),)
    assert request.shared_memory_bytes == 1 << 20
    assert (request.ulimits[0].soft, request.ulimits[0].hard) == (5, 6)
    assert (request.epoch_seconds, request.keeps_times) == (7, False)
    assert request.most_parallel_steps == 3


def test_a_value_of_a_secret_is_not_shown():
    from engine.types import BuildSecret

    request = BuildRequest(secrets=(BuildSecret(secret_id="s", value=b"hidden"),))
    assert "hidden" not in repr(request)


def test_a_dockerfile_elsewhere_is_named_from_here(
    lamella, context, builds_asked_for, tmp_path_factory
):
    inside = context / "docker"
    inside.mkdir()
    (inside / "web").write_text(DOCKERFILE)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "file"
    elsewhere.write_text(DOCKERFILE)

    lamella("build", "-f", str(inside / "web"), str(context))
    lamella("build", "-f", str(elsewhere), str(context))

    assert [request.dockerfile for request in builds_asked_for] == ["docker/web", str(elsewhere)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--secret", "src=x"), "it has no id"),
        (("--secret", "id=s,env=NOT_HERE_EITHER"), "is not set"),
        (("--ssh", "default=/dev/null"), "is no socket"),
        (("--build-context", "c=https://example.org/x"), "cannot be fetched"),
        (("--progress", "loud"), "--progress is one of"),
        (("--on-failure", "cry"), "--on-failure takes shell"),
        (("--timestamp", "soon"), "--timestamp"),
        (("--parallel", "0"), "--parallel"),
    ],
)
def test_what_makes_no_sense_is_refused(lamella, context, builds_asked_for, words, said):
    code, _, err = lamella("build", *words, str(context))

    assert code == 125
    assert said in err
    assert not builds_asked_for


def test_an_address_as_context_says_what_to_do(lamella):
    code, _, err = lamella("build", "https://example.org/app.git")

    assert code == 125
    assert "hint: `git clone` it" in err


def test_an_id_is_written_to_a_file(lamella, context, tmp_path):
    _, out, _ = lamella("build", "--iidfile", str(tmp_path / "id"), str(context))

    assert (tmp_path / "id").read_text() == out.strip()


def test_a_check_builds_nothing(lamella, context, builds_asked_for):
    code, out, _ = lamella("build", "--check", str(context))

    assert (code, out) == (0, "Check complete, no warnings found.\n")
    assert not builds_asked_for


def test_the_cache_is_listed_and_pruned(lamella, context):
    lamella("build", str(context))
    _, out, _ = lamella("builder", "ls")
    assert "RUN echo hello" in out

    _, out, _ = lamella("builder", "prune", "-f")
    assert "Total reclaimed space: 1.0 kB" in out
    assert "RUN" not in lamella("builder", "ls")[1]


def test_builds_are_listed(lamella, context):
    lamella("build", "-t", "web", str(context))

    lines = lamella("builder", "history")[1].splitlines()
    assert "web:latest" in lines[1]
    assert "done" in lines[1]
