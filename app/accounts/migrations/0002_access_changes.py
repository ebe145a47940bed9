"""The stream of access changes: open before anything is published to it."""

import secrets

from django.db import migrations


def open_stream(apps, schema_editor):
    StreamPosition = apps.get_model("journal", "StreamPosition")
    position = StreamPosition(stream="accounts", epoch=1 + secrets.randbelow(2**53 - 1))
    StreamPosition.objects.bulk_create([position], ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("journal", "0001_initial")]
    operations = [migrations.RunPython(open_stream, migrations.RunPython.noop)]
