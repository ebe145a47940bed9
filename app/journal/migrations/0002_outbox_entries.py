from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("journal", "0001_initial")]

    operations = [
        migrations.AlterModelOptions(name="outboxentry", options={"verbose_name_plural": "outbox entries"}),
    ]
