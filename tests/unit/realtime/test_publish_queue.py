"""What waits for the bus is bounded in bytes and in age, and leaves in its order."""

from app.realtime.publish_queue import PublishQueue


def test_commands_leave_joined_and_in_their_order() -> None:
    queue = PublishQueue(100, 5.0)
    for command in (b"one ", b"two ", b"three"):
        assert queue.add(command, now=0.0, unsent=0)
    assert queue.take() == (b"one two three", 3)
    assert queue.take() == (b"", 0)


def test_a_full_queue_takes_no_more_until_it_was_emptied() -> None:
    queue = PublishQueue(10, 5.0)
    assert queue.add(b"x" * 10, now=0.0, unsent=0)
    assert not queue.add(b"y", now=0.0, unsent=0)
    queue.take()
    assert queue.add(b"y", now=0.0, unsent=0)


def test_bytes_the_kernel_has_not_taken_yet_count_too() -> None:
    queue = PublishQueue(10, 5.0)
    assert not queue.add(b"xx", now=0.0, unsent=9)
    assert queue.add(b"xx", now=0.0, unsent=8)


def test_what_is_too_old_is_dropped_and_makes_room() -> None:
    queue = PublishQueue(4, 5.0)
    queue.add(b"old", now=1.0, unsent=0)
    queue.add(b"n", now=2.0, unsent=0)
    assert queue.expire(now=6.0) == 0
    assert queue.expire(now=6.5) == 1
    assert len(queue) == 1
    assert queue.add(b"new", now=6.5, unsent=0)
    assert queue.take() == (b"nnew", 2)
