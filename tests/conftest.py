"""How tests are shared out when several processes run them (`make test`), and what holds for all of them."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from hypothesis import settings
from pytest_django.plugin import DjangoDbBlocker
from xdist.scheduler import LoadScopeScheduling

# No test asserts a time: not how long one example takes, either.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


class ByServers(LoadScopeScheduling):  # type: ignore[misc]
    """Integration tests of one file share its servers: one process plays all of it."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith("tests/unit/") else nodeid.partition("::")[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What a selection leaves out is not there at all; the whole suites (`make …-all`) play it."""
    if "all" not in (os.environ.get("FAILURE"), os.environ.get("LOAD")):
        left_out = [item for item in items if item.get_closest_marker("at_length")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    return ByServers(config, log)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SQLite in a file, as nodes have it. In memory, who reads while another thread writes gets an error."""
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """PostgreSQL drops no database in which a thread of asgiref or of a test still has a session."""
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
