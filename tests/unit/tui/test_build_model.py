"""What the build screens show, apart from any screen."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.types import (
    BuildChanged,
    BuildOutput,
    BuildStatus,
    BuildStepChanged,
    BuildStepState,
    OutputStream,
)
from tests.tui.builds import earlier, sample_model, sample_news, sample_progress
from tui.builds.about import step_lines, warning_lines, whole_step
from tui.builds.compare import counterparts, growths, previous_build
from tui.builds.funnel import MAXIMUM_WAITING_BYTES, BuildFunnel
from tui.builds.model import BuildModel, Fold
from tui.builds.requests import BuildFieldError, BuildFields, fields_of, parse_fields
from tui.builds.rows import LogRow, NoteRow, StageRow, StepRow, build_rows
from tui.builds.step_log import MAXIMUM_BYTES, MAXIMUM_LINES, StepLog
from tui.builds.texts import change_text, seconds_text

if TYPE_CHECKING:
    from pathlib import Path

STDOUT, STDERR = OutputStream.STDOUT, OutputStream.STDERR


def output(position: int, data: bytes) -> BuildOutput:
    return BuildOutput(position=position, stream=STDOUT, data=data, time=1.0)


def text_of(lines: tuple[tuple[object, ...], ...]) -> str:
    return "\n".join("".join(cell.text for cell in line) for line in lines)  # type: ignore[attr-defined]


class TestFunnel:
    def test_only_the_last_state_of_a_step_is_handed_on(self) -> None:
        woken: list[int] = []
        funnel = BuildFunnel(lambda: woken.append(1))
        progress = sample_progress()
        funnel(BuildChanged(progress=progress))
        for seconds in (1, 2, 3):
            funnel(BuildStepChanged(step=replace(progress.steps[3], ended_at=float(seconds))))
        news = funnel.take()
        assert news.whole is not None
        assert [one.step.ended_at for one in news.steps] == [3.0]
        assert len(woken) == 4
        assert funnel.take().whole is None

    def test_output_that_nobody_takes_is_bounded_and_counted(self) -> None:
        funnel = BuildFunnel(lambda: None)
        piece = b"x" * 65536
        count = 3 * MAXIMUM_WAITING_BYTES // len(piece)
        for _ in range(count):
            funnel(output(2, piece))
        news = funnel.take()
        taken = sum(len(one.data) for one in news.output)
        assert taken <= MAXIMUM_WAITING_BYTES
        assert taken + news.lost_bytes[2] == count * len(piece)

    def test_nothing_is_lost_between_two_threads(self) -> None:
        funnel = BuildFunnel(lambda: None)
        thread = threading.Thread(
            target=lambda: [funnel(output(0, b"%d\n" % n)) for n in range(5000)]
        )
        thread.start()
        found = b""
        while thread.is_alive():
            found += b"".join(one.data for one in funnel.take().output)
        found += b"".join(one.data for one in funnel.take().output)
        assert found.split() == [b"%d" % n for n in range(5000)]


class TestStepLog:
    def test_lines_grow_until_they_end(self) -> None:
        log = StepLog()
        log.write(STDOUT, b"one\ntw")
        log.write(STDERR, b"error")
        log.write(STDOUT, b"o\n")
        assert [(line.stream, line.raw) for line in log.lines] == [
            (STDOUT, b"one"),
            (STDOUT, b"two"),
            (STDERR, b"error"),
        ]

    @pytest.mark.parametrize(
        ("pieces", "shown"),
        [
            ((b"10 %\r20 %\r30 %",), b"30 %"),
            ((b"10 %\r", b"20 %\r"), b"20 %\r"),
            ((b"10 %\r", b"\r\n"), b"10 %"),
            ((b"whole line\r\n",), b"whole line"),
            ((b"\r\r",), b"\r"),
        ],
    )
    def test_a_progress_bar_shows_its_last_state(
        self, pieces: tuple[bytes, ...], shown: bytes
    ) -> None:
        log = StepLog()
        for piece in pieces:
            log.write(STDOUT, piece)
        assert [line.raw for line in log.lines] == [shown]

    def test_a_bar_that_is_drawn_for_hours_costs_no_memory(self) -> None:
        log = StepLog()
        for number in range(200_000):
            log.write(STDOUT, b"\r%d of many bytes" % number)
        assert [line.raw for line in log.lines] == [b"199999 of many bytes"]

    def test_lines_and_bytes_are_bounded_and_the_newest_are_kept(self) -> None:
        log = StepLog()
        for number in range(3 * MAXIMUM_LINES):
            log.write(STDOUT, b"line %d\n" % number)
        assert len(log.lines) == MAXIMUM_LINES
        assert log.line_count == 3 * MAXIMUM_LINES
        assert log.lines[-1].raw == b"line %d" % (3 * MAXIMUM_LINES - 1)
        for _ in range(100):
            log.write(STDOUT, b"y" * 16_000 + b"\n")
        assert sum(len(line.raw) for line in log.lines) <= MAXIMUM_BYTES

    def test_an_open_line_that_fell_out_goes_on_as_another_one(self) -> None:
        log = StepLog()
        log.write(STDERR, b"begins")
        for number in range(MAXIMUM_LINES + 5):
            log.write(STDOUT, b"%d\n" % number)
        log.write(STDERR, b" and ends\n")
        assert log.lines[-1].raw == b" and ends"


class TestCompare:
    def test_the_build_before_is_the_last_one_done_of_the_name(self) -> None:
        progress = sample_progress()
        done = earlier(progress)
        failed = replace(done, build_id="3" * 32, status=BuildStatus.FAILED)
        other = replace(done, build_id="2" * 32, names=("other:latest",))
        assert previous_build((progress, failed, other, done), progress) is done
        assert previous_build((done,), replace(progress, names=())) is None

    def test_steps_that_grew_come_first(self) -> None:
        progress = sample_progress()
        grown = growths(progress, counterparts(progress, earlier(progress)))
        assert [(one.position, one.size_bytes) for one in grown] == [
            (8, 12_100_000),
            (2, -60_000),
        ]

    def test_a_step_that_was_put_in_between_moves_nothing(self) -> None:
        progress = sample_progress()
        before = earlier(progress)
        # The build before had no COPY of package.json.
        stage = before.stages[1]
        shorter = replace(stage, steps=(stage.steps[0], stage.steps[2]))
        before = replace(before, stages=(before.stages[0], shorter, before.stages[2]))
        found = counterparts(progress, before)
        assert 5 not in found
        assert found[6].text == progress.steps[6].text

    def test_the_last_stage_is_compared_with_the_last_one_whatever_comes_before(
        self,
    ) -> None:
        progress = sample_progress()
        before = earlier(progress)
        stage = replace(before.stages[2], position=1, number=1)
        found = counterparts(progress, replace(before, stages=(before.stages[0], stage)))
        assert found[8].text == progress.steps[8].text
        assert 6 not in found

    def test_a_step_that_was_changed_stands_for_the_one_in_its_place(self) -> None:
        progress = sample_progress()
        before = earlier(progress)
        steps = list(before.steps)
        steps[8] = replace(steps[8], text="RUN apt-get install --yes nginx-light")
        found = counterparts(progress, replace(before, steps=tuple(steps)))
        assert found[8].text == "RUN apt-get install --yes nginx-light"
        assert "it was: RUN apt-get install --yes nginx-light" in text_of(
            step_lines(_compared(replace(before, steps=tuple(steps))), 8)
        )


def _compared(before: object) -> BuildModel:
    model = sample_model()
    model.compare_with(before)  # type: ignore[arg-type]
    return model


class TestRows:
    def test_running_steps_show_the_end_of_their_log(self) -> None:
        model = sample_model()
        rows = build_rows(model, tail=2)
        logged = [row.line.raw for row in rows if isinstance(row, LogRow) and row.position == 3]
        assert logged[-1] == b"gcc -O2 -Wall -c -o serve.o serve.c"
        assert len(logged) == 2
        notes = [row.text for row in rows if isinstance(row, NoteRow)]
        assert "2 lines above; l shows the whole log" in notes
        assert sum(isinstance(row, StageRow) for row in rows) == 3

    def test_a_log_that_is_closed_stays_closed(self) -> None:
        model = sample_model()
        model.toggle_fold(3)
        assert model.fold(3) is Fold.OPEN
        model.toggle_fold(3)
        assert model.fold(3) is Fold.CLOSED
        rows = build_rows(model, tail=2)
        assert not [row for row in rows if isinstance(row, LogRow) and row.position == 3]

    def test_one_stage_needs_no_headings(self) -> None:
        progress = sample_progress()
        stage = replace(progress.stages[0], steps=(0, 1))
        model = BuildModel(progress=replace(progress, stages=(stage,), steps=progress.steps[:2]))
        assert all(isinstance(row, StepRow) for row in build_rows(model, tail=2))

    def test_hostile_errors_are_clean(self) -> None:
        progress = sample_progress()
        failed = replace(
            progress.steps[3], state=BuildStepState.FAILED, error="a\x1b]0;x\x07b\x1b[31mc\x9b2J"
        )
        steps = (*progress.steps[:3], failed, *progress.steps[4:])
        model = BuildModel(progress=replace(progress, steps=steps))
        notes = [row for row in build_rows(model, tail=2) if isinstance(row, NoteRow)]
        assert notes[0].text == "abc"
        assert "\x1b" not in text_of(whole_step(model, 3))


class TestAbout:
    def test_the_weightiest_reason_is_said_and_how_many_more_there_are(self) -> None:
        text = text_of(step_lines(sample_model(), 2))
        assert "not in the cache: src/app.py has another content  and 13 more" in text
        assert "before    1.3 MB" in text
        assert "now -60.0 kB" in text

    def test_a_step_names_what_it_waits_for_and_who_waits_for_it(self) -> None:
        assert "waits for tools 4/4" in text_of(step_lines(sample_model(), 10))
        assert "needed by stage 2 4/5" in text_of(step_lines(sample_model(), 3))

    def test_everything_has_all_reasons(self) -> None:
        text = text_of(whole_step(sample_model(), 2))
        assert "new.txt was not there" in text
        assert "and 12 more" in text

    def test_a_warning_stands_with_its_line(self) -> None:
        text = text_of(warning_lines(sample_progress()))
        assert "Dockerfile:4:1  LegacyKeyValueFormat" in text
        assert "ENV MODE production" in text


class TestRequests:
    def test_fields_become_a_request_and_are_shown_again(self, tmp_path: Path) -> None:
        fields = BuildFields(
            context="shop", names="a:1, b", target="final", arguments="V=1\n\nHOME", pulls=True
        )
        request = parse_fields(fields, directory=str(tmp_path), environment={"HOME": "/home/ada"})
        assert request.context == tmp_path / "shop"
        assert request.names == ("a:1", "b")
        assert request.arguments == (("V", "1"), ("HOME", "/home/ada"))
        assert request.pulls
        assert request.keeps_failed_step
        assert fields_of(request).arguments == "V=1\nHOME=/home/ada"

    def test_every_field_is_as_its_option_on_the_command_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TOKEN", "very secret")
        agent = tmp_path / "agent"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(agent))
            fields = BuildFields(
                context=".",
                platform="linux/amd64",
                network="none",
                labels="a=1 'b=two words'",
                secrets=f"id=TOKEN id=file,src={tmp_path}/key",
                ssh=f"default={agent}",
                cache_sources="one type=registry,ref=two:2",
                uses_cache=False,
                squashes=True,
            )
            request = parse_fields(fields, directory="/", environment={})

            assert (request.platform, request.network) == ("linux/amd64", "none")
            assert request.labels == (("a", "1"), ("b", "two words"))
            assert [one.secret_id for one in request.secrets] == ["TOKEN", "file"]
            assert request.secrets[0].value == b"very secret"
            assert (request.ssh[0].ssh_id, request.ssh[0].socket) == ("default", agent)
            assert request.cache_sources == ("one", "two:2")
            assert (request.uses_cache, request.squashes) == (False, True)
            again = fields_of(request)
            assert parse_fields(again, directory="/", environment={}) == request
            assert "very secret" not in repr(again)

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            (BuildFields(context=".", labels="'unended"), "labels"),
            (BuildFields(context=".", secrets="src=file"), "secrets"),
            (BuildFields(context=".", ssh="default=/nowhere"), "ssh"),
            (BuildFields(context=".", cache_sources="type=gha"), "cache-from"),
            (BuildFields(context=""), "context"),
            (BuildFields(context=".", arguments="1X=2"), "arguments"),
            (BuildFields(context=".", arguments="UNKNOWN"), "arguments"),
        ],
    )
    def test_what_makes_no_sense_names_its_field(self, fields: BuildFields, field: str) -> None:
        with pytest.raises(BuildFieldError) as caught:
            parse_fields(fields, directory="/", environment={})
        assert caught.value.field == field


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0.0 s"), (0.04, "0.0 s"), (12.34, "12.3 s"), (59.97, "1 m 00 s"), (245, "4 m 05 s"),
     (3720, "1 h 02 m")],
)  # fmt: skip
def test_seconds_are_short(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_changes_have_their_sign() -> None:
    assert change_text(12_100_000) == "+12.1 MB"
    assert change_text(-60_000) == "-60.0 kB"


def test_news_of_a_plan_replace_what_was_there() -> None:
    model = BuildModel()
    assert model.status is BuildStatus.RUNNING
    assert model.steps == ()
    model.take(sample_news(sample_progress()))
    assert len(model.steps) == 12
    assert model.log(6).lines[-1].raw == b"[#######...] 74 %"
