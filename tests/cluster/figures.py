"""What a run measured, for the terminal and for docs/results. A figure is never a condition."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from loadtest.bench.machine import commit
from tests.cluster.cluster import Cluster

RESULTS: Final = Path(__file__).parents[2] / "docs" / "results"


@dataclass(frozen=True)
class Outcome:
    """One test of the run."""

    test: str
    passed: bool
    seconds: float


class Figures:
    """Collected while tests run."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self._loads = [os.getloadavg()[0]]

    def note(self, what: str, value: float, unit: str = "s") -> None:
        self._loads.append(os.getloadavg()[0])
        number = f"{value:,.0f}" if unit != "s" else f"{value:.1f}"
        self.rows.append((what, f"{number} {unit}".strip()))

    def page(self, outcomes: Sequence[Outcome], cluster: Cluster, day: date) -> str:
        """The page for docs/results/."""
        nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
        info = nodes[0]["status"]["nodeInfo"]
        lines = [
            f"# Cluster tests of {day.isoformat()}",
            "",
            f"Commit {commit()}, by `tests/cluster` with `SAVE=1`. Kubernetes {info['kubeletVersion']}, "
            f"{len(nodes)} nodes of the cluster on {os.cpu_count()} cores for everything, {info['osImage']}. "
            f"Load {min(self._loads):.0f} to {max(self._loads):.0f} meanwhile; each figure is of one run.",
            "",
            "| figure | what |",
            "| ---: | --- |",
            *(f"| {value} | {what} |" for what, value in self.rows),
            "",
            "| test | outcome | seconds |",
            "| --- | --- | ---: |",
            *(f"| `{one.test}` | {verdict(one)} | {one.seconds:.0f} |" for one in outcomes),
            "",
        ]
        return "\n".join(lines)

    def save(self, outcomes: Sequence[Outcome], cluster: Cluster) -> Path:
        day = date.today()
        path = RESULTS / f"{day.isoformat()}-cluster.md"
        path.write_text(self.page(outcomes, cluster, day))
        return path


def verdict(outcome: Outcome) -> str:
    return "passed" if outcome.passed else "FAILED"
