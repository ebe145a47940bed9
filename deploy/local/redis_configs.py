"""The configuration files of Redis and Sentinel. They are written anew at each start, because both programs
rewrite them with what happened to them; nothing in them is kept.
"""

import shutil
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Final

from deploy.local.ports import HOST

PRIMARY_NAME: Final = "carillon"
CONFIG_FILE: Final = "server.conf"
QUORUM: Final = 2
COMMON: Final = (f"bind {HOST}", "daemonize no", 'logfile ""', "loglevel warning")
"""To standard output, and only what matters: Sentinel's events are warnings, a replica's chatter is not."""


def redis_lines(port: int, *, replica_of: int | None) -> list[str]:
    """A Redis that keeps nothing on disk: the database is the truth, this is the bus."""
    return [
        *COMMON,
        f"port {port}",
        'save ""',
        "appendonly no",
        "repl-diskless-sync yes",
        "repl-diskless-sync-delay 0",
        # Redis' own 32mb 8mb 60 cuts a node off that stalls for a moment under load.
        "client-output-buffer-limit pubsub 64mb 16mb 60",
        *([f"replicaof {HOST} {replica_of}"] if replica_of else []),
    ]


def sentinel_lines(
    port: int,
    *,
    peers: Sequence[int],
    primary: int,
    replica: int,
    down_after_milliseconds: int,
    failover_timeout_milliseconds: int,
) -> list[str]:
    """A Sentinel that already knows everybody, as it would write down itself: saves seconds."""
    return [
        *COMMON,
        f"port {port}",
        f"sentinel myid {_sentinel_id(port)}",
        f"sentinel monitor {PRIMARY_NAME} {HOST} {primary} {QUORUM}",
        f"sentinel down-after-milliseconds {PRIMARY_NAME} {down_after_milliseconds}",
        f"sentinel failover-timeout {PRIMARY_NAME} {failover_timeout_milliseconds}",
        f"sentinel known-replica {PRIMARY_NAME} {HOST} {replica}",
        *(f"sentinel known-sentinel {PRIMARY_NAME} {HOST} {peer} {_sentinel_id(peer)}" for peer in peers),
    ]


def write_config(folder: Path, lines: Sequence[str]) -> None:
    """Make `folder` hold this configuration and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text("\n".join([*lines, ""]))


def _sentinel_id(port: int) -> str:
    """Sentinel wants 40 hexadecimal digits, different for each."""
    return sha1(str(port).encode(), usedforsecurity=False).hexdigest()
