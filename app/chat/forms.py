"""The form that opens a room: people give a title, the address follows from it."""

from typing import Any

from django import forms
from django.utils.text import slugify

from app.chat.models import SLUG_LIMIT, TITLE_LIMIT, slug_validator


class OpenRoomForm(forms.Form):
    """`slug` is there afterwards: the one asked for, or one made from the title."""

    title = forms.CharField(max_length=TITLE_LIMIT, label="Name of the room")
    slug = forms.CharField(required=False, widget=forms.HiddenInput, validators=[slug_validator])

    def clean(self) -> dict[str, Any]:
        title = self.cleaned_data.get("title")
        if title is not None and not self.cleaned_data.get("slug"):
            slug = slugify(title).replace("_", "-")[:SLUG_LIMIT].strip("-")
            if not slug:
                self.add_error(
                    "title",
                    "Please use at least one letter a-z or digit: the room's address is made of them.",
                )
            self.cleaned_data["slug"] = slug
        return self.cleaned_data
