"""What foreign code published and no stream took, for the operator: why, and what is to become of it."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from app.journal import services
from app.journal.models import OutboxEntry


@admin.register(OutboxEntry)
class OutboxAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable when it runs
    """Only what was refused: the rest is on its way, and gone within a second."""

    list_display = ["created_at", "stream", "kind", "sender", "failure"]
    ordering = ["-id"]
    actions = ["try_again"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxEntry]:
        return super().get_queryset(request).exclude(failure="")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    @admin.action(description="Try again", permissions=["delete"])
    def try_again(self, request: HttpRequest, queryset: QuerySet[OutboxEntry]) -> None:
        services.try_again(queryset)
