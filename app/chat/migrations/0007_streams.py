"""Every room has a stream: those that are open already get theirs."""

import secrets

from django.db import migrations

BATCH = 500


def open_streams(apps, schema_editor):
    Room = apps.get_model("chat", "Room")
    StreamPosition = apps.get_model("journal", "StreamPosition")
    after = 0
    while rooms := list(Room.objects.filter(id__gt=after).order_by("id").values_list("id", "slug")[:BATCH]):
        StreamPosition.objects.bulk_create(
            (
                StreamPosition(stream=f"room.{slug}", epoch=1 + secrets.randbelow(2**53 - 1))
                for _, slug in rooms
            ),
            ignore_conflicts=True,
        )
        after = rooms[-1][0]


class Migration(migrations.Migration):
    atomic = False  # each batch by itself, so that it can be ended and begun again
    dependencies = [("chat", "0006_message"), ("journal", "0001_initial")]
    operations = [migrations.RunPython(open_streams, migrations.RunPython.noop)]
