from app.serving.deadlines import Deadlines


class Somebody:
    def out_of_time(self) -> None:
        raise NotImplementedError


def test_whose_time_is_over_is_taken_out_once_in_the_order_of_coming() -> None:
    deadlines = Deadlines()
    first, second, third = Somebody(), Somebody(), Somebody()
    for now, one in enumerate([first, second, third]):
        deadlines.begin(one, float(now))
    assert list(deadlines.begun_until(1.0)) == [first, second]
    assert list(deadlines.begun_until(1.0)) == []
    assert list(deadlines.begun_until(9.0)) == [third]


def test_who_is_done_is_looked_at_no_more() -> None:
    deadlines = Deadlines()
    one = Somebody()
    deadlines.begin(one, 0.0)
    deadlines.end(one)
    deadlines.end(one)
    assert not len(deadlines)


def test_who_says_a_little_now_and_then_gets_no_more_time() -> None:
    deadlines = Deadlines()
    one = Somebody()
    for now in range(10):
        deadlines.begin(one, float(now))
    assert list(deadlines.begun_until(0.0)) == [one]


def test_what_ends_while_others_are_taken_out_is_left_out() -> None:
    deadlines = Deadlines()
    one, other = Somebody(), Somebody()
    deadlines.begin(one, 0.0)
    deadlines.begin(other, 0.0)
    for _ in deadlines.begun_until(1.0):
        deadlines.end(other)
    assert not len(deadlines)
