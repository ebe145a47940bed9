"""Waits for the test to let it through, then builds an index without locking the table."""

from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    operations = [
        migrations.RunSQL("SELECT pg_advisory_xact_lock(7)"),
        migrations.RunSQL("CREATE INDEX CONCURRENTLY planted ON chat_room (created_at)"),
    ]
