"""What is broken, one scenario each. They break and mend; whether anything was lost, the judge says.

The docstring is what docs/guarantees.md and the report call it.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from app.realtime.envelope import FORMATS, StreamEnvelope, pack
from app.realtime.stream import StreamEvent
from tests.failure.checker.place import Database
from tests.failure.checker.scene import Scene
from tests.failure.planted.faults import STEP_EVERY_SECONDS

BOTH: Final[tuple[Database, ...]] = ("postgresql", "sqlite")
POSTGRESQL: Final[tuple[Database, ...]] = ("postgresql",)

LATER_RELEASE: Final = (
    b'{"event":"chat.message_posted","data":{"message_id":"%d","sender":{"id":"nobody"},"text":"from later"}}'
)
"""What another release might say, if it were taken for an event of this one."""


@dataclass(frozen=True)
class Scenario:
    """`selection`: on which databases `make test-failure` plays it. `control`: stock Channels can be put
    through the same."""

    play: Callable[[Scene], Awaitable[None]]
    databases: tuple[Database, ...]
    selection: tuple[Database, ...]
    control: bool
    nodes: dict[int, str]
    """Node number to what is planted there."""

    @property
    def name(self) -> str:
        return self.play.__name__

    @property
    def title(self) -> str:
        return (self.play.__doc__ or "").strip().rstrip(".")


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(
    *,
    databases: tuple[Database, ...] = BOTH,
    selection: tuple[Database, ...] = POSTGRESQL,
    control: bool = True,
    everywhere: str = "",
    **planted: str,
) -> Callable[[Callable[[Scene], Awaitable[None]]], Callable[[Scene], Awaitable[None]]]:
    """Register it. `node_2="hears_nothing"` plants that into node 2, `everywhere` into all three."""
    nodes = dict.fromkeys((1, 2, 3), everywhere) if everywhere else {}
    nodes |= {int(name.removeprefix("node_")): what for name, what in planted.items()}

    def register(play: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
        SCENARIOS[play.__name__] = Scenario(play, databases, selection, control, nodes)
        return play

    return register


@scenario(selection=())
async def nothing_is_broken(scene: Scene) -> None:
    """Nothing is broken."""
    await scene.some_writes(150)


# --- Nodes -----------------------------------------------------------------------------------------------


@scenario(selection=BOTH)
async def node_killed(scene: Scene) -> None:
    """A node is killed (kill -9) while people post through it."""
    for number in (2, 1):
        node = scene.node(number)
        await scene.some_writes()
        with scene.broken(f"{node.name} killed"):
            await scene.do(scene.place.kill, node)
            await scene.some_writes()
            await scene.do(scene.place.start_nodes)
    await scene.all_write_again()


@scenario(control=False, node_2="die_after_commit")
async def node_killed_between_commit_and_publish(scene: Scene) -> None:
    """A node is killed after a commit, before anybody was told of it."""
    node = scene.node(2)
    with scene.broken(f"{node.name} kills itself after each 20th commit"):
        await scene.some_writes(300)


@scenario(databases=POSTGRESQL, selection=(), control=False, everywhere="prepares_nothing")
async def node_killed_holding_a_lock(scene: Scene) -> None:
    """A node is killed while its transaction holds the lock of a stream (without prepared statements)."""
    way = scene.place.way_to_database
    assert way is not None
    held = way.hold_next_commit()
    await scene.until(held.done, "a COMMIT is held back")
    # Whose it is, PostgreSQL knows: the session that waits within its transaction.
    node = await scene.do(scene.node_in_transaction)
    with scene.broken(f"{node.name} killed within its transaction"):
        await scene.do(scene.place.kill, node)
        await scene.some_writes()
        await scene.do(scene.place.start_nodes)
    await scene.all_write_again()


@scenario(databases=POSTGRESQL, control=False)
async def node_cut_off_holding_a_lock(scene: Scene) -> None:
    """A node is cut off from the database, without a reset, while its transaction holds a lock."""
    way = scene.place.way_to_database
    assert way is not None
    held = way.hold_next_commit(silent=True)
    await scene.until(held.done, "a COMMIT is held back")
    with scene.broken("a COMMIT held back, and everything behind it"):
        await scene.all_write_again()
    way.cut()
    await scene.all_write_again()


@scenario(selection=())
async def node_hung(scene: Scene) -> None:
    """A node stands still for 8 s and goes on (SIGSTOP, SIGCONT)."""
    node = scene.node(3)
    with scene.broken(f"{node.name} hung"):
        scene.place.pause(node)
        await asyncio.sleep(8)
        scene.place.go_on(node)
    await scene.all_write_again()


@scenario()
async def node_drained(scene: Scene) -> None:
    """A node is drained and replaced under load (SIGTERM), one after the other."""
    for node in scene.place.nodes:
        with scene.broken(f"{node.name} drained"):
            await scene.do(scene.place.drain, node)
            await scene.some_writes(20)
            await scene.do(scene.place.start_nodes)
    await scene.all_write_again()


# --- Redis -----------------------------------------------------------------------------------------------


@scenario()
async def primary_killed(scene: Scene) -> None:
    """Redis' primary is killed; the Sentinels promote the replica."""
    redis = scene.place.redis
    with scene.broken("primary killed"):
        # What it was given in its last moments it passes on to nobody.
        await scene.do(redis.pause, "primary")
        await scene.some_writes(20)
        old = await scene.do(redis.kill, "primary")
        await scene.do(redis.wait_until_promoted, old)
    await scene.all_write_again()


@scenario(selection=())
async def primary_hung(scene: Scene) -> None:
    """Redis' primary hangs (SIGSTOP) and comes to when another has taken over."""
    redis = scene.place.redis
    with scene.broken("primary hung"):
        old = await scene.do(redis.pause, "primary")
        await scene.do(redis.wait_until_promoted, old)
        await scene.all_write_again()
        await scene.do(redis.resume, old[1])
    await scene.some_writes()


@scenario()
async def planned_failover(scene: Scene) -> None:
    """Redis fails over by plan, while clients come anew within the window."""
    redis = scene.place.redis
    with scene.broken("planned failover"):
        failover = asyncio.create_task(scene.do(redis.failover))
        while not failover.done():
            scene.random.choice(scene.clients).cut()
            await asyncio.sleep(0.1)
        await failover
    await scene.all_write_again()


@scenario(selection=())
async def primary_cut_off(scene: Scene) -> None:
    """Redis' primary is cut off for 65 s: packets are dropped, nothing is reset."""
    redis = scene.place.redis
    port = redis.primary_address()[1]
    with scene.broken("packets of the primary dropped"), scene.place.cut_off(port):
        await scene.do(redis.wait_until_promoted, ("127.0.0.1", port))
        await scene.all_write_again()
        await asyncio.sleep(65 if scene.everything else 5)
    await scene.some_writes()


@scenario(selection=())
async def primary_restarted_empty(scene: Scene) -> None:
    """Redis' primary is restarted at once and comes back empty."""
    redis = scene.place.redis
    for _ in range(3):
        with scene.broken("primary restarted"):
            await scene.do(redis.pause, "primary")
            await scene.some_writes(20)
            primary = await scene.do(redis.kill, "primary")
            await scene.do(redis.restart, primary[1])
        await scene.some_writes()
    await scene.all_write_again()


@scenario()
async def redis_gone(scene: Scene) -> None:
    """Redis is gone altogether, primary, replica and Sentinels (30 s; in the selection 6 s)."""
    redis = scene.place.redis
    servers = list(redis.processes())
    with scene.broken("all of Redis gone"):
        async with scene.all_stay_ready():
            for name in reversed(servers):
                await scene.do(redis.kill, name)
            began = scene.clock()
            await scene.all_write_again()
            await scene.all_have_everything()
            await asyncio.sleep(30 if scene.everything else 6)
            await scene.all_write_again()
            await scene.all_have_everything()
            scene.measure_crossing("Redis gone", began)
        for name in servers:
            await scene.do(redis.restart, name)
    await scene.all_write_again()


@scenario(selection=(), control=False)  # what fills the buffer would break stock by what it is
async def output_buffer_overrun(scene: Scene) -> None:
    """A node reads so slowly that Redis drops its subscription (output buffer overrun)."""
    redis, node = scene.place.redis, scene.node(2)
    port = redis.primary_address()[1]
    await scene.do(redis.ask, port, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 16kb 1")
    try:
        with scene.broken(f"{node.name} does not read; Redis gives it up"):
            scene.place.pause(node)
            channel = await scene.do(scene.some_channel)
            for _ in range(40):
                await scene.do(redis.ask, port, "PUBLISH", channel, "x" * 2**19)
            await asyncio.sleep(2)
            scene.place.go_on(node)
        await scene.all_write_again()
    finally:
        limit = "pubsub 64mb 16mb 60"
        await scene.do(redis.ask, port, "CONFIG", "SET", "client-output-buffer-limit", limit)


@scenario(control=False, everywhere="bad_bus")
async def bad_bus(scene: Scene) -> None:
    """The bus repeats, drops and reorders."""
    with scene.broken("the bus repeats, drops and reorders"):
        await scene.some_writes(300)


@scenario()
async def deaf_node(scene: Scene) -> None:
    """Redis ends all subscriptions (CLIENT KILL TYPE pubsub), then one node's again and again."""
    redis = scene.place.redis
    port = redis.primary_address()[1]
    for _ in range(3):
        with scene.broken("subscriptions killed"):
            await scene.do(redis.ask, port, "CLIENT", "KILL", "TYPE", "pubsub")
            await scene.some_writes(20)
    with scene.broken("node-2's subscriptions killed"):
        for _ in range(20):
            await scene.do(scene.make_deaf, scene.node(2), port)
            await scene.some_writes(10)
    await scene.all_write_again()


@scenario(selection=(), control=False, node_2="hears_nothing")
async def node_hears_nothing(scene: Scene) -> None:
    """A node gets nothing that is published, turns unready and hands its clients over."""
    node = scene.node(2)
    with scene.broken(f"{node.name} hears nothing"):
        async with asyncio.timeout(scene.patience):
            while await scene.do(node.is_ready):
                await scene.some_writes(20)
        await scene.some_writes(200)


@scenario(selection=(), control=False)
async def other_versions_on_the_bus(scene: Scene) -> None:
    """Another release speaks on the bus in envelopes that nobody here knows."""
    redis = scene.place.redis
    port = redis.primary_address()[1]
    with scene.broken("envelopes of other versions"):
        for number in range(60):
            last = await scene.do(scene.last_sequences)
            stream = scene.random.choice(sorted(last))
            epoch, sequence = last[stream]
            payload = LATER_RELEASE % number
            ours = pack(StreamEnvelope(b"another.", number, StreamEvent(epoch, sequence + 1, payload)))
            theirs = bytes([scene.random.choice((0, max(FORMATS) + 1, 255))]) + ours[1:]
            await scene.do(redis.ask, port, "PUBLISH", f"carillon:{stream}", theirs)
            await scene.some_writes(2)


@scenario(selection=(), control=False, node_3="speaks_another_version")
async def two_versions_side_by_side(scene: Scene) -> None:
    """One node is of a distant release: on the bus it and the others do not understand each other."""
    with scene.broken("node-3 speaks another version"):
        async with scene.all_stay_ready():
            began = scene.clock()
            await scene.some_writes(300)
            await scene.all_have_everything()
            scene.measure_crossing("releases that do not understand each other", began)
    await scene.all_write_again()


@scenario(selection=(), control=False, node_2="next_release", node_3="next_release")
async def roll_to_another_format(scene: Scene) -> None:
    """The bus' format changes: a roll to the release that writes the new one, node by node, and back."""
    await scene.do(scene.place.replace, scene.node(1), "")  # what other scenarios left in its metrics is gone
    await scene.bus_brings_everything()
    for release in ("release_after_next", "next_release"):
        for node in scene.place.nodes:
            with scene.broken(f"{node.name} replaced, with {release}"):
                await scene.bus_understands()
                await scene.do(scene.place.replace, node, release)
                await scene.some_writes(20)
            if node is scene.node(1):
                await scene.bus_brings_everything()
    await scene.all_write_again()
    await scene.bus_understands()


# --- The database ----------------------------------------------------------------------------------------


@scenario(databases=POSTGRESQL, control=False)
async def database_restarted(scene: Scene) -> None:
    """PostgreSQL crashes and is restarted, twice."""
    postgres = scene.place.postgres
    assert postgres is not None
    for _ in range(2):
        await scene.some_writes()
        with scene.broken("database crashed"):
            os.kill(postgres.pid, signal.SIGQUIT)
            await scene.do(postgres.stop)
            await asyncio.sleep(1.5)
            await scene.do(postgres.start)
        await scene.all_write_again()


@scenario(databases=POSTGRESQL, selection=(), control=False)
async def database_slow(scene: Scene) -> None:
    """PostgreSQL answers half a second late."""
    way = scene.place.way_to_database
    assert way is not None
    with scene.broken("database slow"):
        way.delay = 0.25
        await scene.some_writes(60)
        way.delay = 0.0
    await scene.all_write_again()


@scenario(databases=POSTGRESQL, selection=(), control=False)
async def database_silent(scene: Scene) -> None:
    """PostgreSQL says nothing for 8 s, and nothing is reset."""
    way = scene.place.way_to_database
    assert way is not None
    with scene.broken("database silent"):
        way.hold()
        await asyncio.sleep(8)
        way.pass_on()
    await scene.all_write_again()


@scenario(databases=POSTGRESQL, control=False)
async def cut_between_commit_and_answer(scene: Scene) -> None:
    """The connection to PostgreSQL is cut after COMMIT and before its answer, again and again."""
    way = scene.place.way_to_database
    assert way is not None
    with scene.broken("connections cut between COMMIT and its answer"):
        for _ in range(10):
            before = way.commits_cut
            way.cut_commits(1)
            await scene.until(lambda before=before: way.commits_cut > before, "a COMMIT was cut")  # type: ignore[misc]
            await scene.some_writes(10)
    await scene.all_write_again()


@scenario(databases=("sqlite",), selection=("sqlite",), control=False)
async def database_locked(scene: Scene) -> None:
    """Another program keeps SQLite's write lock for 3 s, again and again."""
    for _ in range(3):
        with scene.broken("SQLite locked"):
            await scene.do(scene.lock_sqlite, 3.0)
        await scene.some_writes(20)
    await scene.all_write_again()


@scenario(control=False)
async def purged_while_away(scene: Scene) -> None:
    """The journal is purged while some clients are away: they start over from a snapshot."""
    scene.clicks_twice = False  # a key is kept for a day, and this purge takes younger ones
    away = scene.clients[:3]
    for client in away:
        await client.stop()
    await scene.some_writes(100)
    with scene.broken("journal purged"):
        last = await scene.do(scene.last_sequences)
        await scene.do(lambda: scene.place.stage(purge={name: one[1] for name, one in last.items()}))
    await scene.some_writes()
    for client in away:
        client.start()
    await scene.all_write_again()
    told = {what.split(": ")[-1] for client in away for _, what in client.account.errors}
    assert "purged" in told, f"nobody was told to start over: {told}"


@scenario(selection=BOTH, control=False)
async def older_backup_restored(scene: Scene) -> None:
    """An older backup of the database is restored under connected clients."""
    await scene.some_writes()
    await scene.pause_writing()
    await scene.do(scene.place.back_up)
    kept = {one.key for client in scene.clients for one in client.account.asked}
    scene.quiet = False
    await scene.some_writes()
    await scene.pause_writing()
    asked = {one.key for client in scene.clients for one in client.account.asked}
    with scene.broken("older backup restored"):
        await scene.do(scene.place.restore)
    scene.forgiven |= asked - kept
    scene.quiet = False
    await scene.all_write_again()
    await scene.some_writes()


# --- Clients and clocks ----------------------------------------------------------------------------------


@scenario()
async def client_network_dropped(scene: Scene) -> None:
    """The network of all clients is dropped every 2 s."""
    for _ in range(5):
        with scene.broken("all client connections cut"):
            for node in scene.place.nodes:
                await scene.do(node.way.cut)
            await asyncio.sleep(2)
    await scene.all_write_again()


@scenario(selection=(), control=False, node_2="clock_steps")
async def clock_stepped(scene: Scene) -> None:
    """One node's clock steps back and forth by four minutes."""
    with scene.broken("node-2's clock steps"):
        everywhere = scene.clock() + 3 * STEP_EVERY_SECONDS  # it has been right, ahead and behind
        while scene.clock() < everywhere:
            await scene.some_writes(20)


@scenario(control=False)
async def member_removed(scene: Scene) -> None:
    """Members are removed from a room while hundreds of messages are in flight there."""
    room = scene.new_room()
    owner, *others = scene.clients
    leaving = others[1::2]
    inside = [client for client in scene.clients if client is not others[0]]
    outsider = others[0]
    members = {client.person: "member" for client in inside} | {owner.person: "owner"}
    await scene.open_rooms([room], members=members)
    for client in scene.clients:
        client.enter(room)
    await scene.until(lambda: f"room.{room}" in outsider.account.shut_out, "an outsider is kept out")
    await scene.until(scene.all_are_in, "the members are in")
    for number in range(40):
        for client in inside:
            client.post(room, f"{client.name} in flight {number}")
        if number in (10, 20, 30) and leaving:
            owner.write(room, "chat.remove_member", "chat.member_removed", person=leaving.pop().person)
        await asyncio.sleep(0.02)
    await scene.until(lambda: not any(client.unsent for client in scene.clients), "everything has its answer")
