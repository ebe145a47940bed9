"""The journal's own connection to the database that Django is configured with."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import connections
from psycopg.pq import Conninfo

from app.journal.backend import Backend
from app.journal.postgres_backend import PostgresBackend
from app.journal.sqlite_backend import SqliteBackend


def own_backend() -> Backend:
    """A connection of one's own, opened with the first batch: not one of Django's, nor of its pool."""
    connection = connections["default"]
    parameters = connection.get_connection_params()
    if connection.vendor == "sqlite":
        return SqliteBackend(_sqlite(parameters), seconds=settings.JOURNAL_STORE_SECONDS)
    return PostgresBackend(
        _libpq(parameters),
        seconds=settings.JOURNAL_STORE_SECONDS,
        prepare=settings.DATABASE_PREPARED_STATEMENTS,
    )


def _libpq(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only Django and psycopg know."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    ours = {name: value for name, value in parameters.items() if name in known}
    return ours | {"application_name": f"{ours['application_name']}/journal"}


def _sqlite(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parameters[name] for name in ("database", "uri") if name in parameters}
