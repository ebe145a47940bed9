"""Rooms for the operator."""

from django.contrib import admin

from app.chat.models import Room


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable when it runs
    list_display = ["title", "slug", "listed", "created_at"]
    search_fields = ["title", "slug"]

    def get_readonly_fields(self, request: object, obj: Room | None = None) -> list[str]:
        """A room's address never changes: links to it and its stream hang on it."""
        return ["slug"] if obj else []
