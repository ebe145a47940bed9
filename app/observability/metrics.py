"""Every metric, declared once (docs/metrics.md says how to read each). Labels are few and closed.

What values a label has is said here, or by the module that knows them (`appear`): so each series is there
from the start, at 0. What only appears with its first event has no rate before the second.
"""

import platform
import time
from collections.abc import Iterable
from itertools import product
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from app import VERSION
from app.observability.weighted_histogram import WeightedHistogram

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, and no query reads it

_RECIPIENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_AGES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_LAGS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BATCH: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
_TASK_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


def appear(metric: Counter | Gauge | Histogram, *values: Iterable[str]) -> None:
    """Have the series of all combinations there: for each label of `metric` its values."""
    for combination in product(*values):
        metric.labels(*combination)


connections = Gauge("carillon_connections", "WebSocket connections open now", ["path"])
appear(connections, ("fast", "mailbox", "stock", "events"))
connections_opened = Counter("carillon_connections_opened_total", "WebSocket connections accepted", ["path"])
appear(connections_opened, ("fast", "mailbox", "stock"))
connections_closed = Counter("carillon_connections_closed_total", "WebSocket connections ended", ["code"])
connections_refused = Counter(
    "carillon_connections_refused_total", "WebSocket upgrades refused before accept", ["reason"]
)
connections_released = Counter(
    "carillon_connections_released_total", "Connections told to come back elsewhere, and closed", ["reason"]
)
appear(connections_released, ("drain", "deaf", "age"))
releases_cut_off = Counter(
    "carillon_releases_cut_off_total", "Released connections whose client did not take its leave in time"
)
accepts = Gauge("carillon_accepts_per_second", "Connections that this node says it can take, now")
accept_seconds = Gauge(
    "carillon_accept_seconds", "What a new connection takes of the event loop, as measured on this node"
)
draining = Gauge("carillon_draining", "1 while this node lets its connections go, to end")
drain_seconds = Gauge("carillon_drain_seconds", "How long this node has been draining")
drain_out_of_time = Gauge(
    "carillon_drain_out_of_time", "1 when the time to drain ended before the others could take everybody"
)
verifications = Counter(
    "carillon_verifications_total", "Rights of connections that were looked at again", ["outcome"]
)
appear(verifications, ("held", "revoked", "failed"))
commands = Counter("carillon_commands_total", "Commands answered", ["outcome"])
subscriptions = Gauge("carillon_subscriptions", "Memberships of connections in groups, now")
groups = Gauge("carillon_groups", "Groups with a subscriber on this node, now")
publishes = Counter("carillon_publishes_total", "Events published on this node")
fanout_recipients = WeightedHistogram(
    "carillon_fanout_recipients", "Local recipients of a publish", buckets=_RECIPIENTS
)
fanout_deliveries = Counter("carillon_fanout_deliveries_total", "Events written to a connection")
fanout_bytes = Counter("carillon_fanout_bytes_total", "Bytes of events written to connections")
fanout_seconds = Histogram(
    "carillon_fanout_seconds", "From the first publish of a batch to its last write", buckets=_SECONDS
)
slow_consumers = Counter(
    "carillon_slow_consumers_total", "Events not written because a connection was over its budget", ["policy"]
)
appear(slow_consumers, ("closed", "coalesced", "dropped"))
unsent_bytes = Gauge(
    "carillon_unsent_bytes", "What was written to connections and the kernel has not taken yet, now"
)
bus_connected = Gauge("carillon_bus_connected", "1 when the bus is there and all subscriptions are confirmed")
bus_published = Counter("carillon_bus_published_total", "Messages handed to the bus", ["outcome"])
appear(bus_published, ("written", "failed", "dropped_full", "dropped_expired"))
bus_received = Counter("carillon_bus_received_total", "Messages read from the bus", ["outcome"])
appear(bus_received, ("heard", "echo", "unknown"))
bus_reconnects = Counter("carillon_bus_reconnects_total", "Connections to the bus lost", ["reason"])
appear(bus_reconnects, ("closed", "ping_timeout", "moved", "demoted", "refused", "deaf", "protocol_error"))
bus_failovers = Counter("carillon_bus_failovers_total", "Joins of another Redis, or of another life of it")
journal_entries = Counter("carillon_journal_entries_total", "Entries answered by the journal", ["outcome"])
appear(journal_entries, ("stored", "repeated", "refused", "busy", "unknown"))
journal_waiting = Gauge("carillon_journal_waiting", "Entries that wait to be sent to the database, now")
journal_batch_entries = Histogram(
    "carillon_journal_batch_entries", "Entries that went to the database together", buckets=_BATCH
)
journal_seconds = Histogram(
    "carillon_journal_seconds",
    "Of a batch: its first entry's wait, and its transaction",
    ["stage"],
    buckets=_SECONDS,
)
appear(journal_seconds, ("wait", "store"))
journal_retries = Counter("carillon_journal_retries_total", "Batches that were rolled back and tried again")
streams = Gauge("carillon_streams", "Streams that are active on this node, now")
stream_holes = Counter(
    "carillon_stream_holes_total", "Events that came before an earlier one of their stream"
)
stream_fills = Counter("carillon_stream_fills_total", "Events delivered from the database, not from the bus")
stream_sweeps = Counter("carillon_stream_sweeps_total", "Sweeps of all active streams", ["outcome"])
appear(stream_sweeps, ("nothing", "found"))
stream_reads = Counter("carillon_stream_reads_total", "Reads of streams for holes and sweeps", ["outcome"])
appear(stream_reads, ("ok", "failed"))
resumes = Counter("carillon_resumes_total", "Clients that wanted to go on from their position", ["outcome"])
appear(resumes, ("resumed", "refused", "epoch", "purged", "ahead", "too_far"))
stream_resets = Counter("carillon_stream_resets_total", "Streams that started over on this node", ["reason"])
appear(stream_resets, ("epoch", "ahead", "purged"))
event_seconds = WeightedHistogram(
    "carillon_event_seconds",
    "From the acceptance of an event of a stream, on whatever node, until it reached a stage on this one",
    ["stage", "origin"],
    buckets=_AGES,
)
deliveries = Counter(
    "carillon_deliveries_total", "What became of events of streams, counted by connection", ["stage"]
)
appear(deliveries, ("expected", "written", "confirmed", "recovered"))
bus_healthy = Gauge("carillon_bus_healthy", "1 when this node hears itself and every other node")
peers = Gauge("carillon_peers", "Nodes that live, this one included, and those of them not heard", ["state"])
appear(peers, ("live", "missed"))
deaf = Gauge("carillon_deaf", "1 while other nodes hear more than this one")
deafness = Counter("carillon_deafness_total", "What came of this node's deafness", ["step"])
appear(deafness, ("noticed", "healed", "left", "stayed"))
loop_lag = WeightedHistogram(
    "carillon_loop_lag_seconds", "How late a timer of the event loop was, once a second", buckets=_LAGS
)
database_pool = Gauge(
    "carillon_database_pool", "Connections of the pool to the database, and who waits for one, now", ["state"]
)
tasks = Counter("carillon_tasks_total", "Background tasks ended on this worker", ["channel", "outcome"])
task_seconds = Histogram(
    "carillon_task_seconds", "From the taking of a task to its end", ["channel"], buckets=_TASK_SECONDS
)
channel_drops = Counter("carillon_channel_drops_total", "Stock messages not delivered", ["reason"])
appear(channel_drops, ("full", "gone", "expired", "undecodable", "bus_full"))
clock = Gauge("carillon_clock_seconds", "This node's clock, as Unix time")
clock.set_function(time.time)
build = Gauge("carillon_build_info", "Always 1; what runs here is in the labels", ["version", "python"])
build.labels(VERSION, platform.python_version()).set(1)

_recipients: Final = fanout_recipients.labels()


def observe_fan_out(publishes: int, recipients: int, deliveries: int, size: int, seconds: float) -> None:
    """One batch of `publishes` events went to `recipients` connections: `deliveries` in all, `size` bytes."""
    _recipients.observe(recipients, publishes)
    fanout_deliveries.inc(deliveries)
    fanout_bytes.inc(size)
    fanout_seconds.observe(seconds)
