"""The account. Who a connection belongs to is decided from it; what people do is stored elsewhere."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.core.exceptions import ValidationError
from django.db import models

from app.accounts.names import NAME_LIMIT, NAME_TAKEN, name_key, normalise, validate_name


class UserManager(DjangoUserManager["User"]):
    """Finds an account by its name however it is written: log-in and `createsuperuser` ask this way."""

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(name_key=name_key(username or ""))

    async def aget_by_natural_key(self, username: str | None) -> "User":
        return await self.aget(name_key=name_key(username or ""))


class User(AbstractUser):
    """One account. `username` is the name that others see; no two accounts' names read alike."""

    username = models.CharField("name", max_length=NAME_LIMIT, unique=True, validators=[validate_name])
    # Folding can make a name three times as long, and normalising some of those longer again.
    name_key = models.CharField(max_length=NAME_LIMIT * 6, unique=True, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        self.name_key = name_key(self.username)
        if update_fields is not None and "username" in update_fields:
            update_fields = {*update_fields, "name_key"}
        super().save(*args, update_fields=update_fields, **kwargs)

    def clean(self) -> None:
        """Normalise the name, and refuse one that reads like another account's: for every form there is."""
        super().clean()
        others = User.objects.exclude(pk=self.pk)
        if others.filter(name_key=name_key(self.username)).exists():
            raise ValidationError({"username": NAME_TAKEN})

    @classmethod
    def normalize_username(cls, username: Any) -> Any:
        return normalise(username or "")  # a form hands on None for a name that it has refused
