"""How the pool of connections to the database is, for whoever looks at the metrics."""

from functools import partial
from typing import Final

from django.db import connections

from app.observability import metrics

_STATES: Final = {
    "open": "pool_size",
    "idle": "pool_available",
    "allowed": "pool_max",
    "waiting": "requests_waiting",
}
"""The metric's label to psycopg's name."""


def watch_pool() -> None:
    """Have the page tell it whenever it is asked for; nothing without a pool (SQLite, or a size of 0)."""
    if getattr(connections["default"], "pool", None):
        for state, name in _STATES.items():
            metrics.database_pool.labels(state).set_function(partial(_now, name))


def _now(name: str) -> int:
    # Looked up anew each time: Django puts another one in its place after `close_pool`.
    pool = getattr(connections["default"], "pool", None)
    return int(pool.get_stats().get(name, 0)) if pool else 0
