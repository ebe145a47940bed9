"""A newcomer finds somewhere to talk."""

from django.db import migrations

ROOMS = [("lobby", "Lobby"), ("bell-tower", "Bell tower"), ("workshop", "Workshop")]


def open_rooms(apps, schema_editor):
    Room = apps.get_model("chat", "Room")
    for slug, title in ROOMS:
        Room.objects.get_or_create(slug=slug, defaults={"title": title})


class Migration(migrations.Migration):
    dependencies = [("chat", "0001_initial")]
    operations = [migrations.RunPython(open_rooms, migrations.RunPython.noop)]
