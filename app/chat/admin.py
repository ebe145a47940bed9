"""Rooms, their members and messages for the operator. What changes here goes through the room's stream like
anything else, so that everybody who is there learns of it: it shows within a second.
"""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.validators import RegexValidator
from django.db.models import QuerySet
from django.http import HttpRequest

from app.chat import services
from app.chat.models import PERSON_LIMIT, PERSON_PATTERN, Membership, Message, Role, Room

REMOVED = "removed"


class RoomForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """A room, and one of its members to be changed."""

    person = forms.CharField(
        required=False,
        max_length=PERSON_LIMIT,
        validators=[RegexValidator(rf"\A{PERSON_PATTERN}\Z")],
        help_text="The id of whoever is to get another role in this room, such as u12.",
    )
    role = forms.ChoiceField(required=False, choices=[("", "–"), *Role.choices, (REMOVED, "Removed")])
    muted = forms.BooleanField(required=False)

    def clean(self) -> dict[str, Any]:
        if bool(self.cleaned_data.get("person")) != bool(self.cleaned_data.get("role")):
            self.add_error("role", "Please give a person and a role, or neither.")
        if self.cleaned_data.get("role") == Role.VISITOR and not self.instance.public:
            self.add_error("role", "In a room for members a visitor is nobody: remove them.")
        return self.cleaned_data


class ReadOnly(admin.options.BaseModelAdmin):  # type: ignore[type-arg]
    """Rows that the journal's writer alone changes."""

    def has_add_permission(self, request: HttpRequest, *_: object) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class MembershipInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    fields = ["person", "role", "muted", "last_read"]
    ordering = ["role", "person"]


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable when it runs
    form = RoomForm
    list_display = ["title", "slug", "listed", "public", "created_at"]
    search_fields = ["title", "slug"]
    inlines = [MembershipInline]

    def get_readonly_fields(self, request: object, obj: Room | None = None) -> list[str]:
        """A room's address never changes: links to it and its stream hang on it. Nor does who may come in."""
        return ["slug", "public"] if obj else []

    def save_model(self, request: HttpRequest, obj: Room, form: RoomForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            services.begin_room(obj)
        person, role = form.cleaned_data.get("person"), form.cleaned_data.get("role")
        if person and role == REMOVED:
            services.remove_member_on_commit(obj.slug, person)
        elif person and role:
            services.set_member_on_commit(obj.slug, person, Role(role), form.cleaned_data["muted"])

    def delete_model(self, request: HttpRequest, obj: Room) -> None:
        services.close_room(obj.slug)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Room]) -> None:
        for room in queryset:
            services.close_room(room.slug)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Its members and messages go with it: nobody has to have a right to each of them."""
        return [str(room) for room in objs], {"rooms": len(objs)}, set(), []


@admin.register(Message)
class MessageAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["sent_at", "room", "sender", "sender_name", "text", "deleted_at"]
    list_filter = ["room"]
    search_fields = ["=sender", "text"]
    list_select_related = ["room"]
    ordering = ["-sent_at"]
    actions = ["delete_texts"]

    @admin.action(description="Take their texts away")
    def delete_texts(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        for message in queryset.filter(deleted_at=None).select_related("room"):
            services.delete_message_on_commit(message.room.slug, message.id)
        messages.info(request, "The texts are gone within a second.")
