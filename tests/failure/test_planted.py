"""The checker is shown what it is there for: with a rule taken out of the nodes, each scenario has to fail.

Played by `make test-failure-planted`, and by `make test-failure-all`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.failure.checker.judge import DISORDERED, DOUBLED, LOST, SHOWN, WRONG
from tests.failure.checker.place import Place
from tests.failure.checker.scenarios import SCENARIOS
from tests.failure.checker.scene import Scene
from tests.failure.plan import SEED

PATIENCE = 12.0
"""What does not come is waited for in vain."""

EXPECTED: dict[tuple[str, str], set[str]] = {
    ("nothing_is_broken", "stores_every_command_again"): {DOUBLED},
    ("nothing_is_broken", "acknowledges_what_is_rolled_back"): {LOST},
    ("node_killed", "resumes_from_now"): {DISORDERED, LOST},
    ("node_hung", "resumes_from_now"): {DISORDERED, LOST},
    ("node_drained", "resumes_from_now"): {DISORDERED, LOST},
    ("client_network_dropped", "resumes_from_now"): {DISORDERED, LOST},
    ("node_killed_between_commit_and_publish", "never_asks_the_database"): {LOST},
    ("primary_killed", "never_asks_the_database"): {LOST},
    ("primary_hung", "never_asks_the_database"): {LOST},
    ("planned_failover", "resumes_from_now"): {DISORDERED, LOST},
    ("primary_restarted_empty", "never_asks_the_database"): {LOST},
    ("deaf_node", "never_asks_the_database"): {LOST},
    ("output_buffer_overrun", "never_asks_the_database"): {LOST},
    ("redis_gone", "never_sweeps"): {LOST},
    ("bad_bus", "never_asks_the_database"): {LOST},
    ("bad_bus", "trusts_the_bus"): {DOUBLED, DISORDERED},
    ("other_versions_on_the_bus", "believes_any_envelope"): {DISORDERED, SHOWN, WRONG, LOST},
    ("database_restarted", "stores_every_command_again"): {DOUBLED},
    ("database_silent", "stores_every_command_again"): {DOUBLED},
    ("cut_between_commit_and_answer", "stores_every_command_again"): {DOUBLED},
    ("purged_while_away", "never_starts_over"): {DISORDERED, LOST, WRONG},
    ("older_backup_restored", "never_starts_over"): {LOST, WRONG},
    ("member_removed", "forgets_removals"): {SHOWN},
    ("member_removed", "asks_nobody_for_rights"): {WRONG},
}
"""Scenario and fault to what the judge has to find, at least one of it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("planted"), "postgresql") as place:
        yield place


@pytest.mark.parametrize(("name", "fault"), EXPECTED)
async def test_the_checker_sees_what_is_planted(place: Place, name: str, fault: str) -> None:
    scenario = SCENARIOS[name]
    await asyncio.to_thread(place.heal)
    faults = dict.fromkeys((1, 2, 3), fault)
    faults |= {number: f"{what},{fault}" for number, what in scenario.nodes.items()}
    await asyncio.to_thread(place.plant, faults)
    async with Scene.on(place, SEED, patience=PATIENCE) as scene:
        with suppress(AssertionError):  # some wait for what does not come
            await scenario.play(scene)
        verdict, story = await scene.verdict()
    assert {problem.kind for problem in verdict.problems} & EXPECTED[name, fault], story
