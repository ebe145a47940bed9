"""Every migration leaves a schema on which the release before works; what does not is refused."""

import re
from pathlib import Path

import pytest

from tests.integration.database.conftest import Run

LINTER = "tests.integration.database.linter"

BASE = """
CreateModel("Thing", [("id", BigAutoField(primary_key=True)), ("name", CharField(max_length=9)),
    ("note", CharField(max_length=9, null=True))]),
CreateModel("Other", [("id", BigAutoField(primary_key=True))]),
"""

FINE = {
    "base": BASE,
    "nullable": 'AddField("thing", "colour", CharField(max_length=9, null=True, default="red"))',
    "default_in_the_database": 'AddField("thing", "size", IntegerField(db_default=0))',
    "index_concurrently": 'AddIndexConcurrently("thing", Index(fields=["name"], name="by_name"))',
    "default_changed": 'AlterField("thing", "size", IntegerField(db_default=1))',
}

REFUSED = {
    "default_in_python": 'AddField("thing", "weight", IntegerField(default=0))',
    "one_of_two_defaults": """
        AddField("thing", "first", IntegerField(default=0)),
        AddField("thing", "second", IntegerField(db_default=0)),
    """,
    "default_taken_away": 'AlterField("thing", "size", IntegerField())',
    "required_after_all": 'AlterField("thing", "note", CharField(max_length=9, default=""))',
    "column_dropped": 'RemoveField("thing", "colour")',
    "column_dropped_in_lower_case": 'RunSQL("alter table planted_thing drop column colour", "")',
    "column_renamed": 'RenameField("thing", "name", "title")',
    "type_changed": 'AlterField("thing", "title", CharField(max_length=3))',
    "unique": 'AddConstraint("thing", UniqueConstraint(fields=["title"], name="one_title"))',
    "checked": 'AddConstraint("thing", CheckConstraint(condition=Q(size__gt=0), name="some_size"))',
    "index_that_locks": 'AddIndex("thing", Index(fields=["size"], name="by_size"))',
    "table_renamed": 'RenameModel("Thing", "Item")',
    "table_dropped": 'DeleteModel("Other")',
}

MIGRATION = """
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.migrations import *
from django.db.models import *


class Migration(Migration):
    atomic = "Concurrently" not in {operations!r}
    dependencies = [{dependency}]
    operations = [{operations}]
"""


def verdicts(lines: list[str], app: str) -> dict[str, str]:
    """Of each migration of the app, without its number."""
    found = (re.match(rf"\({app}, \d{{4}}_(\w+)\)\.\.\. (.*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_every_migration_of_the_application_keeps_the_release_before_working(run: Run, database: str) -> None:
    linter = run(database, module=LINTER)
    assert linter.end() == 0, "\n".join(linter.lines)
    assert verdicts(linter.lines, "chat")


def test_what_the_release_before_could_not_run_on_is_refused(
    run: Run, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "planted_rules"
    (package / "migrations").mkdir(parents=True)
    for folder in (package, package / "migrations"):
        (folder / "__init__.py").touch()
    dependency = ""
    for number, (name, operations) in enumerate({**FINE, **REFUSED}.items(), 1):
        text = MIGRATION.format(operations=operations.strip().rstrip(","), dependency=dependency)
        (package / "migrations" / f"{number:04}_{name}.py").write_text(text)
        dependency = f'("planted", "{number:04}_{name}")'
    linter = run(database, module=LINTER, planted="planted_rules.migrations", PYTHONPATH=str(tmp_path))
    assert linter.end() == 1
    given = verdicts(linter.lines, "planted")
    assert given == dict.fromkeys(FINE, "OK") | dict.fromkeys(REFUSED, "ERR"), "\n".join(linter.lines)
