"""What Prometheus works out and when it calls somebody: promtool plays it, and a Prometheus takes it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.local.processes import wait_until
from tests.monitoring.conftest import FILES, PATIENCE, ROOT, Prometheus, tool
from tests.monitoring.traffic import Traffic

RULES = FILES / "rules.yaml"
PLAYED = sorted(Path(__file__).parent.glob("*rules_test.yaml"))
ALERTS = [
    rule["alert"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


def promtool(*arguments: object) -> str:
    """What it says when all is well."""
    command = [tool("promtool"), *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_promtool_takes_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


@pytest.mark.parametrize("played", PLAYED, ids=lambda path: path.stem)
def test_alerts_come_when_they_should_and_only_then(played: Path) -> None:
    assert promtool("test", "rules", played).count("SUCCESS") == 1


def test_each_alert_is_tried() -> None:
    tries = [
        one
        for played in PLAYED
        for test in yaml.safe_load(played.read_text())["tests"]
        for one in test.get("alert_rule_test", [])
    ]
    assert {one["alertname"] for one in tries if one["exp_alerts"]} == set(ALERTS)
    assert len(ALERTS) == len(set(ALERTS))


def test_rules_and_dashboard_ask_only_for_what_is_documented() -> None:
    documented = set(re.findall(r"`((?:carillon|process)_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    for file in (RULES, FILES / "dashboard.json"):
        named = set(re.findall(r"\b(?:carillon|process)_\w+\b", file.read_text()))
        names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
        assert len(names) > 10
        assert not names - documented, file.name


def test_a_prometheus_works_them_all_out(prometheus: Prometheus, traffic: Traffic) -> None:
    def rules() -> list[tuple[str, str]]:
        groups = prometheus.ask("rules")["groups"]
        return [(rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]]

    assert wait_until(lambda: all(health != "unknown" for health, _ in rules()), PATIENCE)
    assert set(rules()) == {("ok", "")}
    assert wait_until(lambda: prometheus.query("carillon:deliveries_expected:rate5m > 0") != [], PATIENCE)
