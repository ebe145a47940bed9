"""Every query of the dashboard, asked of a Prometheus that looks at three nodes in use."""

import json
from collections.abc import Iterator
from math import isnan
from typing import Any

import pytest

from deploy.local.processes import wait_until
from tests.monitoring.conftest import FILES, PATIENCE, Prometheus
from tests.monitoring.traffic import Traffic

DASHBOARD = json.loads((FILES / "dashboard.json").read_text())


def queries() -> Iterator[Any]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            title = f"{panel['title']}, {target['legendFormat']}"
            yield pytest.param(target["expr"], id=title)


def as_grafana_asks(expression: str) -> str:
    """With its variables filled in, as for all jobs and a range of ten scrapes."""
    return expression.replace("$job", ".*").replace("$__rate_interval", "10s")


@pytest.mark.parametrize("expression", list(queries()))
def test_it_has_data(expression: str, prometheus: Prometheus, traffic: Traffic) -> None:
    def has_data() -> bool:
        traffic.check()
        return any(not isnan(series.value) for series in prometheus.query(as_grafana_asks(expression)))

    assert wait_until(has_data, PATIENCE), f"no data: {expression}"


def test_a_query_of_what_is_not_there_has_none(prometheus: Prometheus) -> None:
    assert (
        prometheus.query(as_grafana_asks('rate(carillon_nothing_total{job=~"$job"}[$__rate_interval])')) == []
    )


def test_its_panels_are_on_the_page_one_beside_the_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
