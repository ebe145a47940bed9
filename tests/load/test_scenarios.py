"""Each scenario that needs nobody to break things holds; the others do as whoever breaks things says."""

from pathlib import Path

import pytest

from loadtest.proof.verdict import BROKEN, HELD
from tests.load.conftest import Place
from tests.load.frame_proxy import Tamper
from tests.load.test_planted import at_length

FOLDER = Path(__file__).parents[2] / "loadtest" / "scenarios"
SCENARIOS = {path.stem for path in FOLDER.glob("[a-z]*.py")}
DISTURBED = {"failover", "node_kill", "rolling_restart"}


@at_length
@pytest.mark.parametrize("scenario", sorted(SCENARIOS - DISTURBED - {"cross_node"}))
def test_a_scenario_runs_and_holds(place: Place, scenario: str) -> None:
    with place.through(Tamper()) as door:
        run = place.run(door.url, "--steady", "24", scenario=scenario)
        assert (run.end(), run.broken) == (HELD, set()), run.log


@at_length
@pytest.mark.parametrize(
    ("disturb", "code", "broken"), [("true", HELD, set()), ("false", BROKEN, {"disturbance_failed"})]
)
def test_a_disturbance_that_fails_is_named(place: Place, disturb: str, code: int, broken: set[str]) -> None:
    with place.through(Tamper()) as door:
        run = place.run(door.url, "--disturb", disturb, scenario="failover")
        assert (run.end(), run.broken) == (code, broken), run.log


def test_each_scenario_is_in_the_documentation() -> None:
    page = (FOLDER.parents[1] / "docs" / "load-testing.md").read_text()
    assert not {name for name in SCENARIOS if f"`{name}`" not in page}
