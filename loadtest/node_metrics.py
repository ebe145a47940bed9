"""What nodes say of themselves: counters read from their metrics before and after, and what they grew by."""

import re
import socket
from collections.abc import Iterable
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Final

ANSWER_SECONDS: Final = 5.0

COUNTED: Final = {
    "sweeps_found": r'carillon_stream_sweeps_total\{outcome="found"\}',
    "holes_filled": r"carillon_stream_fills_total",
    "resumes": r"carillon_resumes_total(?:\{[^}]*\})?",
    "bus_reconnects": r"carillon_bus_reconnects_total(?:\{[^}]*\})?",
}
"""Name of the rule to the samples that are added up for it."""

Reading = dict[str, dict[str, float]]
"""By node's address: name of the rule to its sum."""


def read(addresses: Iterable[str]) -> Reading:
    """Of all nodes behind `host:port` addresses; a name stands for all of its addresses. Who does not answer
    is missing."""
    found: Reading = {}
    for address in addresses:
        name, _, port = address.rpartition(":")
        try:
            infos = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
        except OSError:
            continue
        for host in {str(info[4][0]) for info in infos}:
            text = _ask(host, int(port))
            if text is not None:
                found[f"{host}:{port}"] = sums(text)
    return found


def growth(before: Reading, after: Reading, expect_nodes: int) -> dict[str, float | None]:
    """What the counters of all nodes grew by. Not measured unless each node answered, both times."""
    same = before.keys() & after.keys()
    measured: dict[str, float | None] = {"metrics_missing": expect_nodes - len(same)}
    for rule in COUNTED:
        grown = sum(after[node][rule] - before[node][rule] for node in same)
        measured[rule] = grown if same and before.keys() == after.keys() else None
    return measured


def sums(text: str) -> dict[str, float]:
    """What a node's page of metrics says, by the name of the rule."""
    return {
        rule: sum(float(value) for value in re.findall(rf"^{sample} (\S+)$", text, re.MULTILINE))
        for rule, sample in COUNTED.items()
    }


def _ask(host: str, port: int) -> str | None:
    with closing(HTTPConnection(host, port, timeout=ANSWER_SECONDS)) as connection:
        try:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            return response.read().decode() if response.status == 200 else None
        except (OSError, HTTPException):
            return None
