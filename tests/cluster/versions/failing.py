"""Runs inside of an image, and gives it a migration that fails half-way."""

from pathlib import Path

MIGRATIONS = Path("app/chat/migrations")

last = max(path.stem for path in MIGRATIONS.glob("[0-9]*.py"))
(MIGRATIONS / "9001_failing.py").write_text(
    f"""from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("chat", "{last}")]
    operations = [
        migrations.RunSQL("ALTER TABLE chat_room ADD COLUMN half_way integer"),
        migrations.RunSQL("ALTER TABLE there_is_no_such_table ADD COLUMN x integer"),
    ]
"""
)
