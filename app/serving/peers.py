"""Who hears whom, for people and their tools: what `/peers` on the internal port answers.

Made on the loop, read from the internal port's thread: one object is replaced by another, nothing is changed.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from app.realtime.hearing import Beacon
from app.serving.witness import Noted


class Peer(msgspec.Struct, frozen=True):
    """One node. `told_by`: the bus, or the database; of what only the bus tells, the other has nothing."""

    name: str
    incarnation: str
    version: str
    state: str
    bus: str
    connections: int | None
    loop_lag: float | None
    accepts: float | None
    draining: bool
    told_by: str
    hears: list[str]
    misses: list[str]


class Peers(msgspec.Struct, frozen=True):
    """What the node `node` knows. `witness`: whether the database answered last time."""

    node: str
    incarnation: str
    state: str
    why_unwell: str
    witness: bool
    nodes: list[Peer]


class Board:
    """The last `Peers`, as JSON; empty where no node is."""

    def __init__(self) -> None:
        self.text = b""

    def show(self, peers: Peers) -> None:
        self.text = msgspec.json.encode(peers)


def peers(
    own: Beacon, state: str, why: str, beacons: Iterable[Beacon], notes: Iterable[Noted] | None
) -> Peers:
    """Everything that is known of every node, this one first. `notes` None: the witness is away."""
    noted = {one.note.incarnation: one for one in notes or ()}
    told = {own.incarnation: own} | {
        beacon.incarnation: beacon
        for beacon in sorted(beacons, key=lambda beacon: beacon.name)
        if beacon.incarnation not in own.misses and beacon.incarnation != own.incarnation
    }
    names = {one: noted[one].name for one in noted} | {one: told[one].name for one in told}
    nodes = [
        _by_bus(beacon, state if one == own.incarnation else noted[one].state if one in noted else "", names)
        for one, beacon in told.items()
    ]
    nodes += [_by_database(one, names) for incarnation, one in noted.items() if incarnation not in told]
    return Peers(own.name, own.incarnation, state, why, notes is not None, nodes)


def _by_bus(beacon: Beacon, state: str, names: dict[str, str]) -> Peer:
    return Peer(
        beacon.name,
        beacon.incarnation,
        beacon.version,
        state,
        beacon.bus,
        beacon.connections,
        beacon.loop_lag,
        beacon.accepts,
        beacon.draining,
        "bus",
        *_split(frozenset(beacon.misses), names),
    )


def _by_database(one: Noted, names: dict[str, str]) -> Peer:
    return Peer(
        one.name,
        one.note.incarnation,
        one.version,
        one.state,
        one.bus,
        None,
        None,
        None,
        False,
        "database",
        *_split(one.note.misses, names),
    )


def _split(misses: frozenset[str], names: dict[str, str]) -> tuple[list[str], list[str]]:
    hears = sorted(name for one, name in names.items() if one not in misses)
    return hears, sorted(name for one, name in names.items() if one in misses)


board: Final = Board()
