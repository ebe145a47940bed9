"""What stock Channels loses in the same scenarios: not judged, but put beside ours in the table."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.failure.checker.control import ControlPlace, ControlScene
from tests.failure.checker.scenarios import SCENARIOS, Scenario
from tests.failure.checker.table import FIGURE
from tests.failure.plan import SEED

COMPARED = [scenario for scenario in SCENARIOS.values() if scenario.control]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlace]:
    """Three nodes of the tutorials' application."""
    with ControlPlace(tmp_path_factory.mktemp("control"), "sqlite") as place:
        yield place


@pytest.mark.parametrize("scenario", COMPARED, ids=lambda scenario: scenario.name)
async def test_what_stock_channels_loses(
    place: ControlPlace, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    await asyncio.to_thread(place.heal)
    async with ControlScene.on(place, SEED) as scene:
        await scenario.play(scene)
        losses = await scene.losses()
    assert losses.said, "nobody said anything: this compares nothing"
    for what, count in losses._asdict().items():
        record_property(FIGURE, (scenario.name, "stock", what, count))
