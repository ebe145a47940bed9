"""What the journal stores: where each stream is, its events, and what foreign code wants in it.

Only the writer's SQL and `services` change these rows, with UPDATEs of single columns: a `save()` of a
position read before would take its sequence back, and is refused.
"""

from typing import Any, Final

from django.db import models

NAME_LIMIT: Final = 128
"""Characters of a stream's name, of a person's id and of a kind's name."""


class StreamPosition(models.Model):
    """Where a stream is. `epoch` is random and says which life of it this is: another one starts over."""

    stream = models.CharField(max_length=NAME_LIMIT)
    epoch = models.BigIntegerField()
    floor = models.BigIntegerField(default=0, db_default=0)
    """The highest sequence that was purged."""
    last_sequence = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "journal_position"
        # Not `unique=True`: that brings a second index, for searches that nobody makes.
        constraints = [models.UniqueConstraint(fields=["stream"], name="journal_one_position")]

    def __str__(self) -> str:
        return f"{self.stream} at {self.last_sequence}"

    def save(self, *arguments: Any, **more: Any) -> None:
        """Raises `TypeError` for a position that is stored already."""
        if not self._state.adding:
            raise TypeError("a position is moved by the writer only: what was read before is out of date")
        super().save(*arguments, **more)


class StoredEvent(models.Model):
    """One event. `payload` is what clients get but for its place; empty once its text was deleted."""

    pk = models.CompositePrimaryKey("position_id", "sequence")
    # No constraint in the database: it would look the position up for each event, which holds its lock.
    position = models.ForeignKey(StreamPosition, models.DO_NOTHING, db_constraint=False, db_index=False)
    sequence = models.BigIntegerField()
    key = models.UUIDField()
    sender = models.CharField(max_length=NAME_LIMIT)
    kind = models.CharField(max_length=NAME_LIMIT)
    subject = models.UUIDField(null=True)
    removes = models.CharField(max_length=NAME_LIMIT, default="", db_default="")
    payload = models.TextField()
    at = models.DateTimeField()

    class Meta:
        db_table = "journal_event"
        constraints = [models.UniqueConstraint(fields=["key"], name="journal_one_event_per_key")]
        indexes = [
            models.Index(
                fields=["subject"], name="journal_by_subject", condition=models.Q(subject__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class OutboxEntry(models.Model):
    """An event that a transaction of foreign code wants in a stream: the writer moves it there."""

    stream = models.CharField(max_length=NAME_LIMIT)
    kind = models.CharField(max_length=NAME_LIMIT)
    key = models.UUIDField()
    sender = models.CharField(max_length=NAME_LIMIT)
    subject = models.UUIDField(null=True)
    removes = models.CharField(max_length=NAME_LIMIT, default="", db_default="")
    payload = models.TextField()
    created_at = models.DateTimeField()
    failure = models.TextField(default="", db_default="")
    """Why it is in no stream and will not be tried again: for whoever reads the log."""

    class Meta:
        db_table = "journal_outbox"
        verbose_name_plural = "outbox entries"

    def __str__(self) -> str:
        return f"{self.kind} for {self.stream}"
