"""Records whose functions are compiled late do what those of the standard library do."""

import copy
import dataclasses
import pickle
from dataclasses import field

import msgspec
import pytest

from engine import late_dataclasses
from engine.late_dataclasses import compile_all


def records(decorator):
    @decorator(frozen=True, slots=True, kw_only=True)
    class Point:
        """Somewhere."""

        x: int
        y: int = 2
        labels: dict[str, str] = field(default_factory=dict)
        secret: str = field(default="", repr=False)
        at: float = field(default=0.0, compare=False)

        @property
        def total(self):
            return self.x + self.y

    @decorator(frozen=True, slots=True, kw_only=True)
    class Point3(Point):
        """Above it."""

        z: int = 9
        y: int = 7

    @decorator(frozen=True, slots=True)
    class Pair:
        left: int
        right: tuple[int, ...] = ()

        def __post_init__(self):
            if self.left < 0:
                raise ValueError("left of nothing")

    @decorator(frozen=True, slots=True)
    class Nothing:
        pass

    return Point, Point3, Pair, Nothing


@pytest.fixture(params=[dataclasses.dataclass, late_dataclasses.dataclass], ids=["early", "late"])
def kinds(request):
    return records(request.param)


@late_dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One that pickle finds by its name."""

    name: str
    size: int = 1


def test_a_record_is_made_shown_and_compared(kinds):
    point, point3, pair, nothing = kinds
    one = point(x=1, secret="s", at=5.0)
    assert repr(one).endswith("Point(x=1, y=2, labels={}, at=5.0)")
    assert (one.total, one.labels, one.secret) == (3, {}, "s")
    assert one == point(x=1, secret="s", at=6.0) != point(x=1)
    assert one != point3(x=1, y=2, secret="s")
    assert point3(x=1).total == 8
    assert repr(point3(x=1)).endswith("Point3(x=1, y=7, labels={}, at=0.0, z=9)")
    assert pair(1, (2,)) == pair(1, right=(2,))
    assert nothing() == nothing() != pair(1)
    assert {pair(1): "found"}[pair(1)] == "found"
    assert len({nothing(), nothing()}) == 1
    assert pair.__match_args__ == ("left", "right")
    assert point.__match_args__ == ()
    assert point.__doc__ == "Somewhere."


@pytest.mark.parametrize(
    "make",
    [
        lambda point, _pair: point(),
        lambda point, _pair: point(1),
        lambda point, _pair: point(x=1, w=2),
        lambda _point, pair: pair(),
        lambda _point, pair: pair(1, 2, 3),
        lambda _point, pair: pair(1, left=1),
    ],
)
def test_a_record_refuses_values_that_it_does_not_have(kinds, make):
    point, _point3, pair, _nothing = kinds
    for _time in range(2):
        with pytest.raises(TypeError, match="__init__"):
            make(point, pair)


def test_a_record_does_not_change(kinds):
    point, _point3, pair, _nothing = kinds
    one = point(x=1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        one.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del one.x
    assert not hasattr(one, "__dict__")
    with pytest.raises(ValueError, match="left of nothing"):
        pair(-1)


def test_a_record_can_be_copied_replaced_and_written(kinds):
    point, point3, pair, _nothing = kinds
    one = point3(x=1, labels={"a": "b"})
    assert dataclasses.replace(one, z=4) == point3(x=1, labels={"a": "b"}, z=4)
    assert [each.name for each in dataclasses.fields(point3)] == [
        *("x", "y", "labels", "secret", "at", "z")
    ]
    assert dataclasses.asdict(pair(1)) == {"left": 1, "right": ()}
    assert copy.copy(one) == copy.deepcopy(one) == one
    assert copy.deepcopy(one).labels is not one.labels
    document = msgspec.json.encode(one)
    assert msgspec.json.decode(document, type=point3) == one
    assert msgspec.json.decode(b'{"x": 3}', type=point) == point(x=3)


def test_a_record_outlives_pickling():
    assert pickle.loads(pickle.dumps(Kept(name="a"))) == Kept(name="a")


def test_what_can_change_is_refused():
    with pytest.raises(TypeError, match="standard library"):
        late_dataclasses.dataclass(frozen=False, slots=True)


def test_everything_is_compiled_where_a_process_is_about_to_fork():
    point, *_others = records(late_dataclasses.dataclass)
    late = point.__init__
    compile_all()
    compiled = point.__init__
    assert compiled is not late
    assert point(x=1) == point(x=1)
    assert point.__init__ is compiled
