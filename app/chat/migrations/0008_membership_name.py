from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chat", "0007_streams")]
    operations = [
        # With a default in the database: the release before this one goes on writing memberships.
        migrations.AddField(
            model_name="membership",
            name="name",
            field=models.CharField(db_default="", default="", max_length=64),
        )
    ]
