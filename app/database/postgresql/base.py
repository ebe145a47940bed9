"""Django's backend, whose connections are given up, and no longer asked for, while the database is away."""

from typing import Any, Final

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool

from app.database.outage import outage
from app.database.patience import PatientConnection

WAIT_SECONDS: Final = 1.0
"""After so long without an answer somebody else asks whether the database is there at all."""


class PooledConnection(PatientConnection):
    """A slow answer is waited for, unless the database turns out to be away."""

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().connect(*args, **kwargs)
        except psycopg.OperationalError as error:
            outage.suspect(str(error))
            raise

    def go_on(self, waited: float) -> None:
        if waited > WAIT_SECONDS:
            outage.suspect()
            if outage.away:
                raise psycopg.OperationalError("the database is away, and owes an answer")


class DatabaseWrapper(base.DatabaseWrapper):
    """One thread's connection, out of the process' pool."""

    @property
    def pool(self) -> Any:
        options = self.settings_dict["OPTIONS"].get("pool")
        if options:
            options["connection_class"] = PooledConnection
        return super().pool

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        outage.raise_if_away()
        try:
            return super().get_new_connection(conn_params)
        except psycopg.OperationalError as error:
            outage.raise_if_away()
            outage.suspect(str(error))
            raise


def _drop_pools() -> None:
    """Whoever waits for a connection is told now; the first one after the outage opens another pool."""
    pools: dict[str, ConnectionPool] = base.DatabaseWrapper._connection_pools  # type: ignore[attr-defined]  # stubs
    while pools:
        pools.popitem()[1].close(timeout=0)


outage.on_begin = _drop_pools
