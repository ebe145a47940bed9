"""When streams are read, by a clock that the test turns."""

from app.realtime.stream_schedule import StreamSchedule


def test_the_earlier_of_two_times_holds_until_the_stream_is_forgotten() -> None:
    schedule: StreamSchedule[str] = StreamSchedule()
    for at in (7.0, 5.0, 9.0):
        schedule.want("room", at)
    schedule.want("cellar", 6.0)
    assert (schedule.due(4.9), schedule.due(5.0), schedule.due(6.0)) == ([], ["room"], ["room", "cellar"])
    schedule.forget("room")
    assert schedule.due(20.0) == ["cellar"]
    assert "room" not in schedule


def test_nothing_is_looked_at_before_a_stream_is_active() -> None:
    schedule: StreamSchedule[str] = StreamSchedule()
    assert schedule.next_look(3.0, active=False) is None
    schedule.want("room", 3.5)
    assert schedule.next_look(3.0, active=False) == 3.5


def test_a_sweep_is_looked_for_as_early_as_it_might_be_due() -> None:
    schedule: StreamSchedule[str] = StreamSchedule()
    assert schedule.sweep(10.0, healthy=True)
    assert schedule.next_look(10.0, active=True) == 11.0
    assert not schedule.sweep(11.0, healthy=True)
    assert schedule.next_look(11.0, active=True) == 12.0
    assert schedule.sweep(12.0, healthy=False)
    assert not schedule.sweep(16.9, healthy=True)
    assert schedule.sweep(17.0, healthy=True)
