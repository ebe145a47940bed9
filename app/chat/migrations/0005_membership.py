import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chat", "0004_room_public")]

    operations = [
        migrations.CreateModel(
            name="Membership",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("person", models.CharField(max_length=64)),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("owner", "Owner"),
                            ("moderator", "Moderator"),
                            ("member", "Member"),
                            ("visitor", "Visitor"),
                            ("banned", "Banned"),
                        ],
                        max_length=12,
                    ),
                ),
                ("muted", models.BooleanField(db_default=False, default=False)),
                ("last_read", models.BigIntegerField(db_default=0, default=0)),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to="chat.room",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("room", "person"), name="chat_one_membership_per_person")
                ],
                "indexes": [models.Index(fields=["person"], name="chat_rooms_of_a_person")],
            },
        ),
    ]
