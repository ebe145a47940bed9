"""The form that opens a room: people give a title, the address follows from it."""

from typing import Any

from django import forms
from django.utils.text import slugify

from app.chat.models import SLUG_LIMIT, TITLE_LIMIT, slug_validator


class OpenRoomForm(forms.Form):
    """`slug` is there afterwards: the one asked for, or one made from the title."""

    title = forms.CharField(max_length=TITLE_LIMIT, label="Name of the room")
    access = forms.ChoiceField(
        required=False,
        choices=[
            ("public", "Everybody: it stands in the list of rooms"),
            ("members", "Members only: nobody else sees that it is there"),
        ],
        initial="public",
        widget=forms.RadioSelect,
        label="Who may come in",
    )
    slug = forms.CharField(required=False, widget=forms.HiddenInput, validators=[slug_validator])

    @property
    def public(self) -> bool:
        """Whether everybody may come in; also when the form did not ask."""
        return self.cleaned_data.get("access") != "members"

    def refuse_address(self) -> None:
        """It belongs to a room that is not there for this person: let them choose another name."""
        self.data = {name: self.data.get(name, "") for name in self.fields} | {"slug": ""}
        self.add_error("title", "This address is taken. Please choose another name.")

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
