"""The database, and how it is reached."""

from typing import Any

import dj_database_url
from environs import EnvError, validate
from psycopg.pq import Conninfo

from app.settings.checks import env, positive
from app.settings.node import DATA_FOLDER, NODE_NAME

DATABASE_URL = env.str("DATABASE_URL", f"sqlite:///{DATA_FOLDER}/carillon.sqlite3")
DATABASE_POOL_SIZE = env.int("DATABASE_POOL_SIZE", 4, validate=validate.Range(0, 1000))
DATABASE_CONNECT_SECONDS = env.int("DATABASE_CONNECT_SECONDS", 5, validate=validate.Range(2, 60))
MIGRATION_LOCK_SECONDS = env.float("MIGRATION_LOCK_SECONDS", 5.0, validate=positive)
MIGRATION_TURN_SECONDS = env.float("MIGRATION_TURN_SECONDS", 120.0, validate=positive)


def _database(url: str) -> dj_database_url.DBConfig:
    """What Django needs to know. The URL holds a password: no error may repeat it."""
    try:
        # Under ASGI each request has a thread of its own: a connection that it kept is never used again.
        database = dj_database_url.parse(url)
    except ValueError:
        raise EnvError(
            'Environment variable "DATABASE_URL" invalid: expected a URL such as postgres://user:password@host/name'
        ) from None
    complete = {
        "django.db.backends.sqlite3": _sqlite,
        "django.db.backends.postgresql": _postgres,
    }
    if database["ENGINE"] not in complete:
        scheme = url.partition(":")[0]
        raise EnvError(
            f'Environment variable "DATABASE_URL" invalid: expected sqlite or postgres, got {scheme}'
        )
    complete[database["ENGINE"]](database)
    return database


def _sqlite(database: dj_database_url.DBConfig) -> None:
    database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # takes the write lock first, so no transaction fails half-way
        "timeout": 2,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }


def _postgres(database: dj_database_url.DBConfig) -> None:
    """Nothing that lasts longer than a transaction is asked of a connection: PgBouncer may stand between."""
    database["ENGINE"] = "app.database.postgresql"
    if not database["NAME"]:
        raise EnvError(
            'Environment variable "DATABASE_URL" invalid: expected the name of a database, after the host'
        )
    # What the URL says after its `?` wins.
    options: dict[str, Any] = {
        "application_name": f"carillon/{NODE_NAME}",
        "connect_timeout": DATABASE_CONNECT_SECONDS,
        # A database whose machine is gone says nothing: asked after 10 s, given up 15 s later.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    } | database.get("OPTIONS", {})
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    if unknown := options.keys() - known:
        raise EnvError(
            'Environment variable "DATABASE_URL" invalid: expected options that libpq knows, '
            f"got {min(unknown)!r}"
        )
    database["OPTIONS"] = options
    database["DISABLE_SERVER_SIDE_CURSORS"] = True
    if DATABASE_POOL_SIZE:
        # What came back from the pool may have died there: asked before each use, which costs one round trip.
        database["CONN_HEALTH_CHECKS"] = True
        options["pool"] = {
            "min_size": 1,
            "max_size": DATABASE_POOL_SIZE,
            "timeout": DATABASE_CONNECT_SECONDS,
            # It tries to reconnect more and more rarely; when it gives up, the next request begins anew.
            "reconnect_timeout": DATABASE_CONNECT_SECONDS,
            "name": "database",
        }


DATABASES = {"default": _database(DATABASE_URL)}
