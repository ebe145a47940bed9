"""The matrix of who hears whom."""

import json

import pytest

from app.realtime.hearing import Beacon, Note
from app.serving import internal_port
from app.serving.internal_port import InternalPort
from app.serving.peers import Board, Peers, peers
from app.serving.witness import Noted
from tests.unit.serving.test_internal_port import get


def beacon(node: str, *misses: str) -> Beacon:
    return Beacon(
        incarnation=node, name=node.upper(), version="1", connections=7, loop_lag=0.5, bus="x", misses=misses
    )


def noted(node: str, *misses: str, state: str = "hearing") -> Noted:
    return Noted(Note(node, frozenset(misses)), node.upper(), "1", "x", state)


def matrix(page: Peers) -> dict[str, tuple[str, str, str]]:
    return {
        one.name: ("".join(one.hears), "".join(one.misses), f"{one.told_by}, {one.state}")
        for one in page.nodes
    }


def test_what_the_bus_tells_is_newer_and_the_database_knows_who_is_not_heard() -> None:
    page = peers(
        beacon("b", "a"),
        "hearing",
        "does not hear 1 of 3 nodes",
        [beacon("a"), beacon("b"), beacon("c", "a")],
        [noted("a", "a", "b", "c", state="away"), noted("b"), noted("c")],
    )
    assert matrix(page) == {
        "B": ("BC", "A", "bus, hearing"),
        "C": ("BC", "A", "bus, hearing"),
        "A": ("", "ABC", "database, away"),
    }
    assert page.witness and page.why_unwell == "does not hear 1 of 3 nodes"
    assert [one.connections for one in page.nodes] == [7, 7, None]


def test_without_a_witness_it_is_what_the_bus_tells() -> None:
    page = peers(beacon("b"), "hearing", "", [beacon("a"), beacon("b")], None)
    assert matrix(page) == {"B": ("AB", "", "bus, hearing"), "A": ("AB", "", "bus, ")}
    assert not page.witness


def test_the_internal_port_shows_it_where_a_node_is(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    monkeypatch.setattr(internal_port, "board", board)
    server = InternalPort("127.0.0.1", 0)
    server.start()
    try:
        assert get(server.port, "/peers")[0] == 404
        board.show(peers(beacon("a"), "hearing", "", [], []))
        status, text = get(server.port, "/peers")
        assert status == 200
        page = json.loads(text)
        assert (page["node"], page["state"]) == ("A", "hearing")
        assert page["nodes"][0]["hears"] == ["A"]
    finally:
        server.stop()
