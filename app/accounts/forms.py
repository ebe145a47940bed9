"""The forms of log-in, sign-up and guests: one rule for names, one clear line for each mistake."""

from django import forms
from django.contrib.auth.forms import AuthenticationForm, BaseUserCreationForm
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from app.accounts.models import User
from app.accounts.names import NAME_LIMIT, NAME_TAKEN, clean_name
from app.accounts.selectors import name_is_taken


class LogInForm(AuthenticationForm):
    """Name and password; the name may be written in any case."""

    error_messages = {
        "invalid_login": "No account has this name and password. Passwords are case-sensitive.",
        "inactive": "This account may no longer log in.",
    }


class SignUpForm(BaseUserCreationForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """A new account: name and password, twice."""

    class Meta:
        model = User
        fields = ("username",)

    def save(self, commit: bool = True) -> User:
        """The new account. Raises `ValidationError` when the name was taken a moment ago."""
        try:
            with transaction.atomic():
                user: User = super().save(commit=commit)
        except IntegrityError as error:
            raise ValidationError({"username": NAME_TAKEN}) from error
        return user


class GuestForm(forms.Form):
    """The name that a guest chooses."""

    name = forms.CharField(
        max_length=NAME_LIMIT,
        widget=forms.TextInput(attrs={"autocomplete": "nickname", "autofocus": True}),
    )

    def clean_name(self) -> str:
        name = clean_name(self.cleaned_data["name"])
        if name_is_taken(name):
            raise ValidationError(NAME_TAKEN)
        return name
