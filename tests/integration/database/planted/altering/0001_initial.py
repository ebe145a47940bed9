"""Changes something, and then a table that the test is using."""

from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel("Thing", [("id", models.BigAutoField(primary_key=True))]),
        migrations.RunSQL("ALTER TABLE chat_room ADD COLUMN planted integer"),
    ]
