"""Chat's pages: all rooms, one room, a room that is not open yet."""

from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from app.accounts.selectors import identity_of_request
from app.chat import services
from app.chat.forms import OpenRoomForm
from app.chat.models import Role
from app.chat.selectors import is_there, role_in, room_by_slug, rooms


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """All rooms; POST opens another."""
    form = OpenRoomForm(request.POST or None, label_suffix="")
    identity = identity_of_request(request)
    if request.method == "POST":
        if identity is None:
            return _ask_who(request)
        if form.is_valid():
            slug, title = form.cleaned_data["slug"], form.cleaned_data["title"]
            room, opened = services.open_room(slug, title, opener=identity, public=form.public)
            if opened or is_there(room.public, role_in(room, identity.id)):
                if not opened:
                    messages.info(request, "This room was open already.")
                return redirect("chat:room", room.slug)
            form.refuse_address()
    status = 422 if form.errors else 200
    seen = rooms(identity.id if identity else "")
    return render(request, "chat/index.html", {"rooms": seen, "form": form}, status=status)


@require_GET
def room(request: HttpRequest, slug: str) -> HttpResponse:
    """The room; an address without one offers to open it."""
    identity = identity_of_request(request)
    if identity is None:
        return _ask_who(request)
    found = room_by_slug(slug)
    role = Role.VISITOR if found is None else role_in(found, identity.id)
    if found is None or not is_there(found.public, role):
        title = slug.replace("-", " ").capitalize()
        form = OpenRoomForm(label_suffix="")
        return render(request, "chat/no_room.html", {"slug": slug, "title": title, "form": form}, status=404)
    if role is Role.BANNED:
        return render(request, "chat/no_entry.html", status=403)
    return render(request, "chat/room.html", {"room": found, "node": settings.NODE_NAME})


def _ask_who(request: HttpRequest) -> HttpResponse:
    """To the door where people say who they are, and back."""
    door = "accounts:guest" if settings.GUESTS_ALLOWED else "accounts:log_in"
    return redirect(f"{reverse(door)}?{urlencode({'next': request.path})}")
