"""What chat stores: rooms. Messages are live only until the journal keeps them."""

from typing import Final

from django.core.validators import RegexValidator
from django.db import models

SLUG_LIMIT: Final = 40
SLUG_PATTERN: Final = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"
TITLE_LIMIT: Final = 60

slug_validator: Final = RegexValidator(
    rf"\A{SLUG_PATTERN}\Z", f"expected 1 to {SLUG_LIMIT} of a-z, 0-9 and inner hyphens"
)


class Room(models.Model):
    """A place to talk. Its slug is its address and never changes."""

    slug = models.CharField(max_length=SLUG_LIMIT, unique=True, validators=[slug_validator])
    title = models.CharField(max_length=TITLE_LIMIT)
    listed = models.BooleanField(default=True, db_default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["title", "slug"]

    def __str__(self) -> str:
        return self.title
