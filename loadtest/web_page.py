"""Two more tabs on Locust's own page: who heard whom so far, and at the end which rules held."""

import json
from typing import Any, Final, Protocol

from loadtest.proof.judge import Finding
from loadtest.proof.verdict import Verdict

DELIVERIES: Final = ("kind", "source", "target", "expected", "delivered", "lost", "altered")
VERDICT: Final = ("verdict", "rule", "measured", "wanted")
TABS: Final = {"deliveries": ("Deliveries", DELIVERIES), "verdict": ("Verdict", VERDICT)}
Rows = list[dict[str, Any]]


class Judged(Protocol):
    """Who knows how things stand."""

    verdict: Verdict | None

    def findings_so_far(self) -> dict[str, Finding]: ...


def rows(judged: Judged) -> dict[str, Rows]:
    """By tab."""
    deliveries: Rows = []
    for kind, finding in sorted(judged.findings_so_far().items()):
        faults = {name: finding.faults[name] for name in ("lost", "altered")}
        total = {"expected": finding.expected.total(), "delivered": finding.delivered.total(), **faults}
        deliveries.append({"kind": kind, "source": "all", "target": "all", **total})
        for pair, expected in sorted(finding.expected.items()):
            source, target = pair
            of_pair = {"expected": expected, "delivered": finding.delivered[pair], "lost": "", "altered": ""}
            deliveries.append({"kind": kind, "source": source, "target": target, **of_pair})
    verdict = judged.verdict
    held = [dict(zip(VERDICT, row.cells, strict=True)) for row in verdict.rows] if verdict else []
    return {"deliveries": deliveries, "verdict": held}


def extend(web_ui: Any, judged: Judged) -> None:
    """Locust's page asks for its statistics every two seconds: ours go along."""
    web_ui.template_args["extended_tabs"] = [{"key": key, "title": title} for key, (title, _) in TABS.items()]
    web_ui.template_args["extended_tables"] = [
        {"key": key, "structure": [{"key": column, "title": column} for column in columns]}
        for key, (_, columns) in TABS.items()
    ]

    def add(response: Any) -> Any:
        if response.is_json and response.json.keys() >= {"stats", "errors"}:
            more = [{"key": key, "data": data} for key, data in rows(judged).items()]
            response.set_data(json.dumps({**response.json, "extended_stats": more}))
        return response

    web_ui.app.after_request(add)
