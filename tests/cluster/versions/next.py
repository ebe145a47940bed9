"""Runs inside of an image, and makes the next version of it: another title, and a new column of rooms."""

from pathlib import Path


def replace(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert text.count(old) == 1, f"{path} has changed: {old!r} is there {text.count(old)} times"
    Path(path).write_text(text.replace(old, new))


MIGRATIONS = Path("app/chat/migrations")
TITLE = "title = models.CharField(max_length=TITLE_LIMIT)"
TOPIC = 'models.CharField(max_length=60, default="", db_default="")'

last = max(path.stem for path in MIGRATIONS.glob("[0-9]*.py"))
(MIGRATIONS / "9001_next.py").write_text(
    f"""from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chat", "{last}")]
    operations = [migrations.AddField("room", "topic", {TOPIC})]
"""
)
replace("app/chat/models.py", TITLE, f"{TITLE}\n    topic = {TOPIC}")
replace("app/chat/templates/base.html", "</title>", " (next)</title>")
