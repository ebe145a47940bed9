"""Nothing lost, nothing twice, in order, nothing to the wrong person, whatever is broken.

docs/guarantees.md says what is promised. `make test-failure` plays a selection, FAILURE=all (as in
`make test-failure-all`) everything and the control; SEED=… plays a failed run again.
"""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from _pytest.mark import ParameterSet

from tests.failure.checker.judge import KINDS
from tests.failure.checker.place import Place
from tests.failure.checker.scenarios import SCENARIOS, Scenario
from tests.failure.checker.scene import Scene
from tests.failure.checker.table import FIGURE
from tests.failure.checker.table import SEED as SEED_PROPERTY
from tests.failure.plan import EVERYTHING, ROUNDS, SEED

Record = Callable[[str, object], None]


def plays() -> Iterator[ParameterSet]:
    """Each scenario on each of its databases, one database after the other."""
    for database in ("postgresql", "sqlite"):
        for number in range(1, ROUNDS + 1):
            for scenario in SCENARIOS.values():
                if database in (scenario.databases if EVERYTHING else scenario.selection):
                    suffix = f"-{number}" if ROUNDS > 1 else ""
                    yield pytest.param(database, scenario, number, id=f"{scenario.name}:{database}{suffix}")


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Three nodes on the database that is asked for, for all its scenarios."""
    with Place(tmp_path_factory.mktemp(request.param), request.param) as place:
        yield place


@pytest.mark.parametrize(("place", "scenario", "number"), [*plays()], indirect=["place"], scope="module")
async def test_nothing_is_lost_doubled_disordered_or_shown_to_the_wrong_person(
    place: Place, scenario: Scenario, number: int, record_property: Record
) -> None:
    seed = SEED + number - 1
    record_property(SEED_PROPERTY, seed)
    await asyncio.to_thread(place.heal)
    await asyncio.to_thread(place.plant, scenario.nodes)
    async with Scene.on(place, seed) as scene:
        scene.everything = EVERYTHING
        await scenario.play(scene)
        verdict, story = await scene.verdict()
    counts = {"acknowledged": verdict.acknowledged, "deliveries": verdict.deliveries, **verdict.counts()}
    for what, count in counts.items():
        record_property(FIGURE, (scenario.name, place.database, what, count))
    for measure in scene.measures:
        record_property(*measure)
    assert not any(verdict.count(kind) for kind in KINDS), story
    assert verdict.acknowledged and verdict.deliveries, "nothing happened: this checked nothing"
