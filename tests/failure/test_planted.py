"""The checker is shown what it is there for: with a rule taken out of the nodes, each scenario has to fail.

Played by `make test-failure-planted`, and by `make test-failure-all`.
"""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from _pytest.mark import ParameterSet

from tests.failure.checker.judge import DISORDERED, DOUBLED, LOST, SHOWN, WRONG
from tests.failure.checker.place import Place
from tests.failure.checker.scenarios import SCENARIOS
from tests.failure.checker.scene import Scene
from tests.failure.checker.table import FOUND
from tests.failure.plan import SEED

WAITED = "the scenario waited in vain"
"""What a scenario itself looks for did not come."""
PATIENCE = 12.0
"""What does not come is waited for in vain."""
LONGER = {"node_hears_nothing": 30.0}
"""The same, where a node needs more to find out."""

EXPECTED: dict[tuple[str, str], set[str]] = {
    ("nothing_is_broken", "stores_every_command_again"): {DOUBLED},
    ("nothing_is_broken", "acknowledges_what_is_rolled_back"): {LOST},
    ("node_killed", "resumes_from_now"): {DISORDERED, LOST},
    ("node_hung", "resumes_from_now"): {DISORDERED, LOST},
    ("node_drained", "resumes_from_now"): {DISORDERED, LOST},
    ("client_network_dropped", "resumes_from_now"): {DISORDERED, LOST},
    ("node_killed_between_commit_and_publish", "never_asks_the_database"): {LOST},
    ("node_killed_holding_a_lock", "answers_before_the_commit"): {LOST},
    ("node_cut_off_holding_a_lock", "holds_locks_for_ever"): {WRONG},
    ("primary_killed", "never_asks_the_database"): {LOST},
    ("primary_hung", "never_asks_the_database"): {LOST},
    ("primary_cut_off", "never_asks_the_database"): {LOST},
    ("planned_failover", "resumes_from_now"): {DISORDERED, LOST},
    ("primary_restarted_empty", "never_asks_the_database"): {LOST},
    ("deaf_node", "never_asks_the_database"): {LOST},
    ("node_hears_nothing", "never_thinks_itself_deaf"): {WAITED},
    ("output_buffer_overrun", "never_asks_the_database"): {LOST},
    ("redis_gone", "never_sweeps"): {LOST},
    ("bad_bus", "never_asks_the_database"): {LOST},
    ("bad_bus", "trusts_the_bus"): {DOUBLED, DISORDERED},
    ("other_versions_on_the_bus", "believes_any_envelope"): {DISORDERED, SHOWN, WRONG, LOST},
    ("two_versions_side_by_side", "never_asks_the_database"): {LOST, WAITED},
    ("roll_to_another_format", "writes_at_once"): {WAITED},
    ("database_slow", "has_no_patience"): {WRONG},
    ("database_locked", "never_tries_again"): {WRONG},
    ("database_restarted", "stores_every_command_again"): {DOUBLED},
    ("database_silent", "stores_every_command_again"): {DOUBLED},
    ("cut_between_commit_and_answer", "stores_every_command_again"): {DOUBLED},
    ("purged_while_away", "never_starts_over"): {DISORDERED, LOST, WRONG},
    ("older_backup_restored", "never_starts_over"): {LOST, WRONG},
    ("clock_stepped", "bears_no_wrong_clock"): {WRONG},
    ("member_removed", "forgets_removals"): {SHOWN},
    ("member_removed", "asks_nobody_for_rights"): {WRONG},
}
"""Scenario and fault to what the judge has to find, at least one of it."""


def plays() -> Iterator[ParameterSet]:
    """Each on the first database of its scenario, what stands on one of them together."""
    for database in ("postgresql", "sqlite"):
        for name, fault in EXPECTED:
            if SCENARIOS[name].databases[0] == database:
                yield pytest.param(database, name, fault, id=f"{name}:{fault}")


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("planted"), request.param) as place:
        yield place


@pytest.mark.parametrize(("place", "name", "fault"), [*plays()], indirect=["place"], scope="module")
async def test_the_checker_sees_what_is_planted(
    place: Place, name: str, fault: str, record_property: Callable[[str, object], None]
) -> None:
    scenario, expected = SCENARIOS[name], EXPECTED[name, fault]
    await asyncio.to_thread(place.heal)
    faults = dict.fromkeys((1, 2, 3), fault)
    faults |= {number: f"{what},{fault}" for number, what in scenario.nodes.items()}
    await asyncio.to_thread(place.plant, faults)
    found = set()
    async with Scene.on(place, SEED, patience=LONGER.get(name, PATIENCE)) as scene:
        try:
            await scenario.play(scene)
        except (AssertionError, TimeoutError):  # some wait for what does not come
            found.add(WAITED)
        verdict, story = await scene.verdict()
    seen = [f"{count} {kind}" for kind, count in verdict.counts().items() if count] + [*found]
    record_property(FOUND, f"{name}, {fault} (seed {SEED}): {', '.join(seen) or 'nothing'}")
    found |= {problem.kind for problem in verdict.problems}
    assert found & expected, story
