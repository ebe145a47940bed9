"""What stock Channels loses in the same scenarios: not judged, but put beside ours in the table."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from _pytest.mark import ParameterSet

from tests.failure.checker.control import ControlPlace, ControlScene
from tests.failure.checker.scenarios import SCENARIOS, Scenario
from tests.failure.checker.table import FIGURE, STOCK
from tests.failure.plan import SEED


def plays() -> Iterator[ParameterSet]:
    """Each scenario on each layer, one layer after the other."""
    for layer in STOCK:
        for scenario in SCENARIOS.values():
            if scenario.control:
                yield pytest.param(layer, scenario, id=f"{scenario.name}:{layer}")


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlace]:
    """Three nodes of the tutorials' application on one of the layers."""
    with ControlPlace(tmp_path_factory.mktemp("control"), request.param) as place:
        yield place


@pytest.mark.parametrize(("place", "scenario"), [*plays()], indirect=["place"], scope="module")
async def test_what_stock_channels_loses(
    place: ControlPlace, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    await asyncio.to_thread(place.heal)
    async with ControlScene.on(place, SEED) as scene:
        await scenario.play(scene)
        losses = await scene.losses()
    assert losses.said, "nobody said anything: this compares nothing"
    for what, count in losses._asdict().items():
        record_property(FIGURE, (scenario.name, place.layer, what, count))
