"""pytest on a real PostgreSQL: `python -m tests.on_postgresql tests/unit/accounts`.

The application's own tests run on the server of DATABASE_URL, or on one that lives as long as the run.
"""

import os
import sys

import pytest

from tests.postgres_server import PostgresServer


def main(arguments: list[str]) -> int:
    """pytest's exit code."""
    if os.environ.get("DATABASE_URL", "").startswith("postgres"):
        return pytest.main(arguments)
    with PostgresServer() as server:
        os.environ["DATABASE_URL"] = server.url()
        return pytest.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
