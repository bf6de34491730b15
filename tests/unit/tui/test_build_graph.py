"""The graph of a build's stages: where steps stand, which lines lead where, what takes longest."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import BuildStage, BuildStep, BuildStepState
from tests.tui.builds import earlier, sample_progress
from tui.builds.compare import counterparts
from tui.builds.graph import draw_graph, first_cell, lane_cells, seconds_left, slowest_way


def made(
    sizes: list[int], waits: dict[int, tuple[int, ...]]
) -> tuple[tuple[BuildStage, ...], tuple[BuildStep, ...]]:
    """Stages of so many steps, of which some wait for steps of other stages."""
    stages, steps = [], []
    for number, size in enumerate(sizes):
        first = len(steps)
        positions = tuple(range(first, first + size))
        stages.append(
            BuildStage(
                position=number, number=number, name=f"s{number}", base="b", depends_on=(),
                steps=positions,
            )
        )  # fmt: skip
        steps += [
            BuildStep(
                position=position, stage=number, number=position - first + 1, count=size,
                instruction="RUN", text="RUN x", line=position, end_line=position,
                depends_on=waits.get(position, ()), state=BuildStepState.DONE,
            )
            for position in positions
        ]  # fmt: skip
    return tuple(stages), tuple(steps)


def drawn(sizes: list[int], waits: dict[int, tuple[int, ...]], *, room: int = 60) -> list[str]:
    stages, steps = made(sizes, waits)
    graph = draw_graph(stages, steps, room=room)
    start = first_cell(graph, steps, room)
    return [
        "".join(
            cell.text for cell in lane_cells(graph, steps, lane, start=start, room=room)
        ).rstrip()
        for lane in range(len(stages))
    ]


def test_a_step_stands_right_of_what_it_waits_for() -> None:
    assert drawn([2, 2], {3: (1,)}) == [
        "[+]───[+]╮",
        "[+]──────╰──[+]".replace("──────╰", "──────┴"),
    ]


def test_a_line_passes_the_lanes_between() -> None:
    lanes = drawn([1, 3, 2], {5: (0,)})
    assert lanes[0] == "[+]╮"
    assert lanes[1] == "[+]┼──[+]───[+]"
    assert lanes[2] == "[+]┴──[+]"


def test_lines_to_different_steps_of_one_column_stay_apart() -> None:
    lanes = drawn([1, 1, 2, 2], {3: (0,), 5: (1,)})
    assert lanes[0] == "[+]╮"
    assert lanes[1] == "[+]┼╮"
    assert lanes[2] == "[+]┴┼─[+]"
    assert lanes[3] == "[+]─┴─[+]"


def test_what_does_not_fit_shrinks_and_then_shows_where_something_runs() -> None:
    assert drawn([9], {}, room=35) == ["[+]─[+]─[+]─[+]─[+]─[+]─[+]─[+]─[+]"]
    assert drawn([9], {}, room=20) == ["+─+─+─+─+─+─+─+─+"]
    stages, steps = made([40], {})
    graph = draw_graph(stages, steps, room=20)
    assert graph.width > 20
    assert 0 < first_cell(graph, steps, 20) <= graph.width - 20 or first_cell(graph, steps, 20) == 0


def test_a_stage_that_stands_on_another_is_linked_where_only_the_stages_say_so() -> None:
    stages, steps = made([1, 1], {})
    from dataclasses import replace

    stages = (stages[0], replace(stages[1], depends_on=(0,)))
    graph = draw_graph(stages, steps, room=40)
    text = "".join(cell.text for cell in lane_cells(graph, steps, 1, start=0, room=40))
    assert text.strip() == "╰──[+]"


def test_the_slowest_way_goes_through_what_the_end_waits_for() -> None:
    progress = sample_progress(now=1000.0)
    way, seconds = slowest_way(progress.stages, progress.steps, now=1000.0)
    assert way[-1] == 8
    assert seconds == pytest.approx(12.4)


def test_a_thousand_stages_are_drawn_at_once() -> None:
    count = 1000
    waits = {number: (number - 1,) for number in range(1, count)}
    stages, steps = made([1] * count, waits)
    began = time.perf_counter()
    graph = draw_graph(stages, steps, room=100)
    slowest_way(stages, steps, now=0.0)
    assert time.perf_counter() - began < 2.0
    assert graph.width > 100


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=20),
    st.integers(4, 80),
)
def test_every_step_is_drawn_once_and_no_line_goes_over_it(
    sizes: list[int], pairs: list[tuple[int, int]], room: int
) -> None:
    count = sum(sizes)
    waits: dict[int, tuple[int, ...]] = {}
    for target, source in pairs:
        if source < target < count:
            waits[target] = (*waits.get(target, ()), source)
    stages, steps = made(sizes, waits)
    graph = draw_graph(stages, steps, room=room)
    for stage in stages:
        cells = lane_cells(graph, steps, stage.position, start=0, room=graph.width)
        text = "".join(cell.text for cell in cells)
        assert text.count("+") == len(stage.steps)
        for position in stage.steps:
            for x in range(graph.left_of[position], graph.left_of[position] + graph.box_width):
                assert (stage.position, x) not in graph.lines


def test_what_is_left_is_as_long_as_it_was_before_and_unknown_for_what_is_new() -> None:
    progress = sample_progress(now=1000.0)
    before = counterparts(progress, earlier(progress))
    # Three steps of 10 seconds wait; what runs beside them is done before.
    left = seconds_left(progress.stages, progress.steps, before, now=1000.0)
    assert left == pytest.approx(10 + 10 + 10)
    without = {position: step for position, step in before.items() if position != 9}
    assert seconds_left(progress.stages, progress.steps, without, now=1000.0) is None
