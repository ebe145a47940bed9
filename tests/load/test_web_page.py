"""Locust's own page, with what this project adds to it."""

import json
import signal
from http.client import HTTPConnection
from typing import Any

import pytest

from deploy.local.ports import HOST, free_ports
from deploy.local.processes import wait_until
from loadtest.proof.verdict import HELD
from tests.load.conftest import Place
from tests.load.frame_proxy import Tamper
from tests.load.test_planted import at_length


def tab(port: int, key: str) -> list[dict[str, Any]]:
    http = HTTPConnection(HOST, port, timeout=30)
    try:
        http.request("GET", "/stats/requests")
        answer = json.loads(http.getresponse().read())
    except OSError:  # not there yet
        return []
    finally:
        http.close()
    return next(one["data"] for one in answer["extended_stats"] if one["key"] == key)


@at_length
@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_page_counts_deliveries_while_it_runs_and_has_the_verdict_at_the_end(
    place: Place, processes: str
) -> None:
    (port,) = free_ports(1)
    with place.through(Tamper()) as door:
        options = ["--autostart", "--web-host", HOST, "--web-port", str(port)]
        run = place.run(
            door.url, *options, *(["--processes", processes] if processes != "1" else []), web=True
        )
        assert wait_until(lambda: any(row["delivered"] > 0 for row in tab(port, "deliveries")), 60)
        assert wait_until(lambda: bool(tab(port, "verdict")), 60)
        assert {row["verdict"] for row in tab(port, "verdict")} == {"held"}
        assert tab(port, "deliveries")[0]["lost"] == 0
        run.signal(signal.SIGTERM)
        assert run.end() == HELD, run.log
