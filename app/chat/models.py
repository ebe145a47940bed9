"""What chat stores: rooms, who may do what in them, and their messages.

Messages are written by the journal's writer alone, beside their events (`kinds`), and so are memberships
but for those that are made with their room.
"""

from typing import Any, Final

from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models.functions import Now
from django.dispatch import Signal

SLUG_LIMIT: Final = 40
SLUG_PATTERN: Final = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"
TITLE_LIMIT: Final = 60
PERSON_LIMIT: Final = 64
"""Characters of a person's id, and of their name as it was when they wrote a message."""
PERSON_PATTERN: Final = rf"[A-Za-z0-9_.:-]{{1,{PERSON_LIMIT}}}"

rights_lost: Final = Signal()
"""Sent with the `slugs` of rooms in the transaction that takes somebody's right to be there, perhaps.
What an event of the room's stream does sends none: it tells by itself."""

slug_validator: Final = RegexValidator(
    rf"\A{SLUG_PATTERN}\Z", f"expected 1 to {SLUG_LIMIT} of a-z, 0-9 and inner hyphens"
)


class Room(models.Model):
    """A place to talk. Its slug is its address and never changes; neither does who may come in."""

    slug = models.CharField(max_length=SLUG_LIMIT, unique=True, validators=[slug_validator])
    title = models.CharField(max_length=TITLE_LIMIT)
    listed = models.BooleanField(default=True, db_default=True)
    public = models.BooleanField(default=True, db_default=True)
    """Everybody may come in who is not banned; else only members."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["title", "slug"]

    def __str__(self) -> str:
        return self.title

    @transaction.atomic
    def save(self, *arguments: Any, **more: Any) -> None:
        """Whoever is in a room that is for members now, and is none, has to leave."""
        was_there = not self._state.adding
        super().save(*arguments, **more)
        if was_there and not self.public:
            rights_lost.send(Room, slugs=[self.slug])


class Role(models.TextChoices):
    """What a person is in a room."""

    OWNER = "owner"
    MODERATOR = "moderator"
    MEMBER = "member"
    VISITOR = "visitor"
    """Nobody in particular: what everybody is in a public room. Kept for what they read, or when muted."""
    BANNED = "banned"


MEMBERS: Final = (Role.OWNER, Role.MODERATOR, Role.MEMBER)
"""Who may come into a room that is not public."""


class MembershipQuerySet(models.QuerySet["Membership"]):
    """Deletes with a word to the rooms; nobody reads the rows for it, of which there may be very many."""

    @transaction.atomic
    def delete(self) -> tuple[int, dict[str, int]]:
        slugs = self.filter(role__in=MEMBERS).order_by().values_list("room__slug", flat=True).distinct()
        found = list(slugs)
        deleted = super().delete()
        if found:
            rights_lost.send(Membership, slugs=found)
        return deleted


class Membership(models.Model):
    """What one person may do in one room, and how far they read there."""

    room = models.ForeignKey(Room, models.CASCADE, related_name="memberships", db_index=False)
    person = models.CharField(max_length=PERSON_LIMIT)
    name = models.CharField(max_length=PERSON_LIMIT, default="", db_default="")
    """As it was when the membership changed: a guest's is kept nowhere else. Empty: not known."""
    role = models.CharField(max_length=12, choices=Role.choices)
    muted = models.BooleanField(default=False, db_default=False)
    last_read = models.BigIntegerField(default=0, db_default=0)
    """The highest sequence of the room's stream that was marked as read; 0: none."""
    used_at = models.DateTimeField(db_default=Now())
    """When that was marked, or the membership made."""

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["room", "person"], name="chat_one_membership_per_person")
        ]
        indexes = [
            models.Index(fields=["person"], name="chat_rooms_of_a_person"),
            models.Index(
                fields=["room", "role", "id"],
                condition=~models.Q(role=Role.VISITOR) | models.Q(muted=True),
                name="chat_members_of_a_room",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person} in {self.room_id}: {self.role}"

    @transaction.atomic
    def save(self, *arguments: Any, **more: Any) -> None:
        """Whoever is banned has to leave, and so has who is no member of a room for members."""
        super().save(*arguments, **more)
        if self.role not in MEMBERS:
            rights_lost.send(Membership, slugs=[self.room.slug])

    @transaction.atomic
    def delete(self, *arguments: Any, **more: Any) -> tuple[int, dict[str, int]]:
        """Likewise."""
        deleted = super().delete(*arguments, **more)
        rights_lost.send(Membership, slugs=[self.room.slug])
        return deleted


class Message(models.Model):
    """Something that was said, as it stands now: edits are applied, a deleted one has no text."""

    id = models.UUIDField(primary_key=True)
    """The key of the command that posted it."""
    # Rooms close under their stream's lock, as messages are written: a constraint would only cost time.
    room = models.ForeignKey(
        Room, models.CASCADE, related_name="messages", db_constraint=False, db_index=False
    )
    sequence = models.BigIntegerField()
    """That of the event that posted it."""
    sender = models.CharField(max_length=PERSON_LIMIT)
    sender_name = models.CharField(max_length=PERSON_LIMIT)
    sender_is_guest = models.BooleanField()
    text = models.TextField()
    node = models.CharField(max_length=PERSON_LIMIT)
    sent_at = models.DateTimeField()
    edited_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["room", "sequence"], name="chat_one_message_per_place")
        ]

    def __str__(self) -> str:
        return f"{self.id} of {self.sender}"
