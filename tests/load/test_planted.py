"""Whatever is broken from outside ends a run with an exit code, and with the name of the rule that saw it.

`make test-load` plays what is not marked `at_length`; `make test-load-all` plays everything.
"""

import os
import signal

import pytest

from deploy.local.ports import HOST, free_ports
from loadtest.proof.verdict import BROKEN, HELD, NO_DATA
from tests.load.conftest import Place
from tests.load.frame_proxy import Tamper
from tests.load.tampers import Frames, Mute

at_length = pytest.mark.at_length
FRAMES = {
    "dropped": "messages_lost",
    "doubled": "messages_doubled",
    "swapped": "messages_misordered",
    "altered": "messages_altered",
}
"""What happens to a frame, and the rule that sees it."""


@at_length
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_run_in_which_nothing_is_broken_holds_every_rule(place: Place, processes: str) -> None:
    with place.through(Tamper()) as door:
        run = place.run(door.url, *(["--processes", processes] if processes != "1" else []))
        assert (run.end(), run.broken) == (HELD, set()), run.log


@pytest.mark.parametrize(
    "faults", [tuple(FRAMES), *(pytest.param((fault,), marks=at_length) for fault in FRAMES)], ids=" ".join
)
def test_each_fault_of_a_frame_is_named_and_no_other(place: Place, faults: tuple[str, ...]) -> None:
    tamper = Frames(*faults)
    with place.through(tamper) as door:
        run = place.run(door.url)
        assert run.end() == BROKEN, run.log
    assert tamper.done
    assert run.broken == {FRAMES[fault] for fault in faults}, run.log


def test_a_cut_bus_is_seen_though_the_database_brings_every_message(place: Place) -> None:
    with place.through(Tamper()) as door:
        run = place.run(door.url)
        run.wait_for("the steady state begins")
        place.bus.deafen(new_ones_too=True)
        assert run.end() == BROKEN, run.log
    assert {"markers_lost", "sweeps_found"} <= run.broken, run.log
    assert "messages_lost" not in run.broken, run.log


@at_length
def test_users_on_one_node_prove_nothing_about_the_others(place: Place) -> None:
    with place.through(Tamper(), place.nodes[1]) as door:
        run = place.run(door.url)
        assert run.end() == BROKEN, run.log
    assert {"nodes_missing", "messages_per_pair", "markers_per_pair"} == run.broken, run.log


@at_length
def test_somebody_who_never_gets_a_word_out_is_noticed(place: Place) -> None:
    with place.through(Mute(b'"chat.post_message"')) as door:
        run = place.run(door.url)
        assert run.end() == BROKEN, run.log
    # Where the run takes longer than an answer may, that it never came is seen, too.
    assert "silent_senders" in run.broken and run.broken <= {"silent_senders", "commands_unanswered"}, run.log


@at_length
def test_a_receiver_who_never_joins_is_noticed(place: Place) -> None:
    with place.through(Mute(b'"chat.join_room"')) as door:
        run = place.run(door.url)
        assert run.end() == BROKEN, run.log
    assert {"users_missing", "silent_senders"} <= run.broken, run.log


def test_a_killed_worker_leaves_no_account(place: Place) -> None:
    with place.through(Tamper()) as door:
        run = place.run(door.url, "--processes", "2")
        run.wait_for("the steady state begins")
        os.kill(run.workers[0], signal.SIGKILL)
        assert run.end() == BROKEN, run.log
    assert "accounts_missing" in run.broken, run.log


@at_length
def test_a_run_that_loses_all_its_workers_ends_all_the_same(place: Place) -> None:
    with place.through(Tamper()) as door:
        run = place.run(door.url, "--processes", "2")
        run.wait_for("the steady state begins")
        for worker in run.workers:
            os.kill(worker, signal.SIGKILL)
        assert run.end() != HELD, run.log
    assert "accounts_missing" in run.broken, run.log


@at_length
def test_where_nobody_answers_there_is_nothing_to_judge(place: Place) -> None:
    (port,) = free_ports(1)
    run = place.run(f"http://{HOST}:{port}")
    assert run.end() == NO_DATA, run.log
    assert "NO DATA: POST /accounts/guest/" in run.log


def test_a_deployment_under_a_name_that_it_does_not_know_is_not_entered(place: Place) -> None:
    run = place.run(f"http://{HOST}:{place.nodes[0].port}", "--origin", "https://chat.example.org")
    assert run.end() == NO_DATA, run.log
    assert "NO DATA: POST /accounts/guest/: 400" in run.log
