"""Refuses migrations after which the release before would no longer work: `python -m` this, on PostgreSQL.

The rules are django-migration-linter's, and those that it lacks. All look at the SQL, never at the models.
"""

import os
import re
import sys
from typing import Any, Final

import django
from django_migration_linter import MigrationLinter
from django_migration_linter.sql_analyser.base import Check, CheckMode, CheckType
from django_migration_linter.sql_analyser.postgresql import PostgresqlAnalyser

CONTRACTED: Final[tuple[str, ...]] = ()
"""Names of migrations that take away what the release before no longer uses; when that ended, beside it."""

ADDED: Final = re.compile(r"ALTER TABLE (\S+) ADD COLUMN (?:IF NOT EXISTS )?(\S+) (.*)")
NO_DEFAULT: Final = re.compile(r"ALTER TABLE (\S+) ALTER COLUMN (\S+) DROP DEFAULT")


def lacks_default(statements: list[str], **_: Any) -> bool:
    """Whether a column is left that the release before, which does not know it, cannot insert without.

    The library's own rule is content when any column of the migration has a default.
    """
    optional: set[tuple[str, ...]] = set()
    for statement in statements:
        if added := ADDED.search(statement):
            table, column, kind = added.groups()
            if "NOT NULL" in kind and not re.search(r"\b(DEFAULT|GENERATED)\b", kind):
                return True
            if "NOT NULL" not in kind:
                optional.add((table, column))
        # Django gives each new column a default and takes it away in the next statement: `db_default` stays.
        if (dropped := NO_DEFAULT.search(statement)) and dropped.groups() not in optional:
            return True
    return False


class ExpandOnly(PostgresqlAnalyser):
    """PostgreSQL's rules, in whatever case the SQL is written."""

    migration_checks = [
        *PostgresqlAnalyser.migration_checks,
        Check(
            code="NO_DEFAULT",
            fn=lacks_default,
            message="NOT NULL column without a default in the database",
            mode=CheckMode.TRANSACTION,
            type=CheckType.ERROR,
        ),
        Check(
            code="SET_NOT_NULL",
            fn=lambda sql, **_: "SET NOT NULL" in sql,
            message="NOT NULL on a column that the release before may leave out",
            mode=CheckMode.ONE_LINER,
            type=CheckType.ERROR,
        ),
        Check(
            code="ADD_CONSTRAINT",
            fn=lambda sql, **_: re.search(r"ALTER TABLE .* ADD CONSTRAINT .* (CHECK|EXCLUDE)\b", sql),
            message="a constraint that the release before may not keep",
            mode=CheckMode.ONE_LINER,
            type=CheckType.ERROR,
        ),
    ]

    def analyse(self, sql_statements: list[str]) -> None:
        super().analyse([statement.upper() for statement in sql_statements])


def lint() -> bool:
    """Whether all migrations of the application are fine; says of each what is wrong with it."""
    linter = MigrationLinter(no_cache=True, all_warnings_as_errors=True, ignore_name=CONTRACTED)
    linter.sql_analyser_class = ExpandOnly
    linter.lint_all_migrations()
    linter.print_summary()
    return not linter.has_errors


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
    django.setup()
    sys.exit(not lint())
