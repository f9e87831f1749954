"""Charts: bars that reach where their values stand, on an axis of round steps."""

from hypothesis import given
from hypothesis import strategies as st

from portal import charts


@given(st.integers(1, 10**18))
def test_steps_are_round_and_few(most: int) -> None:
    step = charts.nice_step(most)
    assert step * charts.TICKS >= most
    assert str(step).rstrip("0") in ("1", "2", "25", "5")


@given(st.lists(st.lists(st.integers(0, 10**12), min_size=2, max_size=2), min_size=1, max_size=30))
def test_bars_stand_on_the_axis_and_below_its_top(values: list[list[int]]) -> None:
    chart = charts.stack([("", list(enumerate(parts, 1))) for parts in values], [])
    for bar in chart.bars:
        heights = [float(part.height.rstrip("%")) for part in bar.parts]
        assert sum(heights) <= 100.02
        if bar.parts:
            bottom = float(bar.parts[0].y.rstrip("%")) + heights[0]
            assert abs(bottom - 100) < 0.02


def test_nothing_to_see_is_not_drawn() -> None:
    assert charts.spark([0, 0, 0]) == ()
    assert charts.spark([5]) == ()
    assert charts.spark([1, 2])[-1].series == 1
