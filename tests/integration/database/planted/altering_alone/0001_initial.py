"""Changes a table that the test is using, outside of a transaction."""

from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    operations = [migrations.RunSQL("ALTER TABLE chat_room ADD COLUMN planted integer")]
