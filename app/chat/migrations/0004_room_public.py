from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chat", "0003_room_listed")]
    operations = [
        # With a default in the database: the release before this one goes on opening rooms.
        migrations.AddField(
            model_name="room", name="public", field=models.BooleanField(db_default=True, default=True)
        )
    ]
