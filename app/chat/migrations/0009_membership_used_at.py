from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("chat", "0008_membership_name")]
    operations = [
        # With a default in the database: the release before this one goes on making memberships.
        migrations.AddField(
            model_name="membership", name="used_at", field=models.DateTimeField(db_default=Now())
        )
    ]
