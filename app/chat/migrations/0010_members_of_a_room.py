from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.migrations.operations import AddIndex


class AddIndexInPassing(AddIndexConcurrently):
    """On PostgreSQL nobody waits for it; SQLite knows no such thing."""

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        postgresql = schema_editor.connection.vendor == "postgresql"
        add = AddIndexConcurrently if postgresql else AddIndex
        add.database_forwards(self, app_label, schema_editor, *states)

    def database_backwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        postgresql = schema_editor.connection.vendor == "postgresql"
        add = AddIndexConcurrently if postgresql else AddIndex
        add.database_backwards(self, app_label, schema_editor, *states)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("chat", "0009_membership_used_at")]
    operations = [
        AddIndexInPassing(
            "membership",
            models.Index(
                fields=["room", "role", "id"],
                condition=~models.Q(role="visitor") | models.Q(muted=True),
                name="chat_members_of_a_room",
            ),
        )
    ]
