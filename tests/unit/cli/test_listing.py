"""`ps`, `images` and `top` over the engine that answers from memory: filters and formats."""

import json

import pytest

from engine.types import ContainerRequest, ContainerStatus, MountRequest
from tests.fakes import FakeEngine
from tui.cli import docker_texts


@pytest.fixture
def engine():
    fake = FakeEngine()
    fake.add_image("web:latest", labels=(("tier", "front"),))
    fake.add_image("debian:12")
    fake.add_image("")
    fake.add_container("web-1", image="web:latest")
    fake.add_container("web-2", image="web:latest", status=ContainerStatus.PAUSED)
    fake.add_container("job", image="debian:12", status=ContainerStatus.EXITED, exit_code=3)
    mounted = ContainerRequest(
        image="debian:12",
        labels=(("team", "blue"), ("only", "")),
        mounts=(MountRequest(kind="volume", source="data", target="/data"),),
    )
    fake._add(mounted, "labelled")
    return fake


@pytest.fixture
def names(lamella):
    def call(*words):
        code, out, err = lamella("ps", "-a", "--format", "{{.Names}}", *words)
        assert code == 0, err
        return sorted(out.split())

    return call


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (("name=web",), ["web-1", "web-2"]),
        (("name=^web-1$",), ["web-1"]),
        (("name=^/job$",), ["job"]),
        (("name=(",), []),
        (("status=paused", "status=exited"), ["job", "web-2"]),
        (("name=web", "status=paused"), ["web-2"]),
        (("exited=3",), ["job"]),
        (("exited=0",), []),
        (("health=none", "name=job"), ["job"]),
        (("health=healthy",), []),
        (("label=team",), ["labelled"]),
        (("label=team=blue", "label=only"), ["labelled"]),
        (("label=team=red",), []),
        (("ancestor=nothing",), []),
        (("volume=data",), ["labelled"]),
        (("volume=/data",), ["labelled"]),
        (("before=web-1",), []),
    ],
)
def test_ps_keeps_what_the_filters_mean(names, filters, found):
    words = [word for text in filters for word in ("--filter", text)]
    assert names(*words) == found


def test_a_filter_by_id_takes_its_beginning(names, engine):
    identity = next(iter(engine.containers))
    assert names("-f", f"id={identity[:12]}") == ["web-1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour=red", "invalid filter: colour, one of ancestor, before"),
        ("status", "invalid filter: status, it needs KEY=VALUE"),
        ("status=asleep", "invalid filter: status=asleep, one of created"),
        ("exited=many", "invalid filter: exited=many, a number"),
        ("since=nobody", "No such container: nobody"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(lamella, text, told):
    code, out, err = lamella("ps", "-f", text)
    assert code != 0
    assert out == ""
    assert told in err


def test_ps_of_the_newest_takes_those_that_do_not_run_as_well(lamella):
    assert lamella("ps", "-q", "-n", "3")[1].count("\n") == 3
    assert lamella("ps", "-l", "-q")[1].count("\n") == 1
    assert lamella("ps", "-q", "-n", "-1")[1].count("\n") == 2
    assert lamella("ps", "-n", "many")[0] == 125


def test_a_table_of_a_template_has_dockers_heads(lamella):
    _, out, _ = lamella("ps", "--format", r'table {{.Names}}\t{{.State}}\t{{.Label "team"}}')
    lines = out.splitlines()
    assert lines[0].split() == ["NAMES", "STATE", "TEAM"]
    assert {tuple(line.split()) for line in lines[1:]} == {
        ("web-1", "running"),
        ("web-2", "paused"),
    }


def test_json_has_dockers_fields_and_the_exact_figures(lamella):
    _, out, _ = lamella("ps", "-a", "-f", "name=job", "--format", "json")
    row = json.loads(out)
    assert (row["Names"], row["State"], row["Image"]) == ("job", "exited", "debian:12")
    assert (row["name"], row["exit_code"]) == ("job", 3)
    _, same, _ = lamella("ps", "-a", "-f", "name=job", "--format", "{{json .}}")
    assert json.loads(same) == row


def test_a_field_that_is_not_there_is_named(lamella):
    code, _, err = lamella("ps", "--format", "{{.Colour}}")
    assert code == 125
    assert "there is no field Colour, only ID, Names" in err
    assert "hint:" in err


def test_sizes_are_measured_when_asked_for(lamella):
    assert "(117 MB with its image)" in lamella("ps", "-s")[1]
    assert "12kB (virtual 117MB)" in lamella("ps", "-s", "--format", "{{.Size}}")[1]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), ["<none>", "debian", "web"]),
        (("web",), ["web"]),
        (("deb*",), ["debian"]),
        (("debian:12",), ["debian"]),
        (("-f", "reference=*:latest"), ["web"]),
        (("-f", "dangling=true"), ["<none>"]),
        (("-f", "dangling=false"), ["debian", "web"]),
        (("-f", "label=tier=front"), ["web"]),
        (("-f", "until=1h"), []),
    ],
)
def test_images_keeps_what_the_filters_mean(lamella, words, found):
    _, out, _ = lamella("images", "--format", "{{.Repository}}", *words)
    assert sorted(out.split()) == found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("registry.example/*", ["registry.example/one"]),
        ("*", ["debian", "web"]),
        ("*/*", ["registry.example/one"]),
        ("registry.example/team/*:v?", ["registry.example/team/two"]),
        ("*/*/two", ["registry.example/team/two"]),
        ("[a-d]ebian", ["debian"]),
        ("[^a-d]eb", ["web"]),
        ("w[[]b", []),
        (r"d\ebian", ["debian"]),
        ("deb*:1?", ["debian"]),
    ],
)
def test_a_star_in_a_reference_stands_for_no_slash(lamella, engine, pattern, found):
    engine.add_image("registry.example/one:latest")
    engine.add_image("registry.example/team/two:v1")
    _, out, _ = lamella("images", "--format", "{{.Repository}}", "-f", f"reference={pattern}")
    assert sorted(out.split()) == found


@pytest.mark.parametrize("pattern", ["[a", "[z-a]", "web\\"])
def test_a_pattern_that_is_none_is_refused(lamella, pattern):
    code, _, err = lamella("images", pattern)
    assert code == 125
    assert err.startswith(f"Error: invalid filter: reference={pattern}")


def test_images_shows_digests_when_asked_for(lamella, engine):
    digest = next(iter(engine.images.values())).digest
    assert digest not in lamella("images")[1]
    assert digest in lamella("images", "--digests")[1]


def test_top_has_the_columns_of_ps(lamella):
    assert lamella("top", "web-1")[1].split()[:8] == [
        "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD",
    ]  # fmt: skip
    assert lamella("top", "web-1", "-eo", "pid,comm=NAME")[1].splitlines()[0].split() == [
        "PID", "NAME",
    ]  # fmt: skip
    assert "%MEM" in lamella("top", "web-1", "aux")[1]
    code, _, err = lamella("top", "web-1", "-o", "colour")
    assert code == 125
    assert "unknown column: 'colour', one of pid" in err
    assert "unknown option of ps: --forest" in lamella("top", "web-1", "--forest")[2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"),
        (150, "2 minutes"), (3600, "About an hour"), (7200, "2 hours"), (3 * 86_400, "3 days"),
        (20 * 86_400, "2 weeks"), (90 * 86_400, "3 months"), (800 * 86_400, "2 years"),
    ],
)  # fmt: skip
def test_ages_read_as_dockers(seconds, text):
    assert docker_texts.duration(seconds) == text


def test_sizes_read_as_dockers():
    assert docker_texts.size(0) == "0B"
    assert docker_texts.size(117_000_000) == "117MB"
    assert docker_texts.binary_size(1_610_612_736) == "1.5GiB"


def test_stats_has_dockers_columns_for_what_runs_and_with_a_all(lamella):
    code, out, err = lamella("stats", "--no-stream")
    assert (code, err) == (0, "")
    heads, *rows = out.splitlines()
    assert " ".join(heads.split()) == (
        "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS"
    )
    assert {row.split()[1] for row in rows} == {"web-1", "web-2"}
    everything = lamella("stats", "--no-stream", "-a", "--format", "{{.Name}} {{.CPUPerc}}")[1]
    assert sorted(everything.splitlines()) == [
        "job --", "labelled --", "web-1 0.30%", "web-2 0.30%",
    ]  # fmt: skip
    assert lamella("stats", "--no-stream", "--format", "{{.Name}}", "job")[1] == "job\n"
    assert "No such container: nobody" in lamella("stats", "--no-stream", "nobody")[2]
