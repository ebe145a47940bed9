"""A stranger's way in over HTTP: a guest's cookie, a ticket, a room that is opened. As a browser would."""

import secrets
from typing import Any, Final
from urllib.parse import urlsplit

import requests

PATIENCE: Final = 30.0
"""Seconds until a request is given up."""


class Refused(Exception):
    """The door did not let us in; the text says which one and why."""


class Visitor:
    """One guest at one deployment, `http[s]://host[:port]`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._entered = False
        self._cookies = {"csrftoken": secrets.token_hex(16)}

    def enter(self, name: str) -> None:
        """Become a guest of this name, once. Raises `Refused`."""
        if self._entered:
            return
        self._cookies |= self._post("/accounts/guest/", 302, name=name).cookies.get_dict()
        self._entered = True

    def ticket(self) -> str:
        """For one connect. Raises `Refused`."""
        return str(self._post("/accounts/ticket/", 200).json()["ticket"])

    def open_room(self, slug: str, title: str) -> None:
        """A public room; one that is open already is as good. Raises `Refused`."""
        self._post("/", 302, slug=slug, title=title)

    def _post(self, path: str, wanted: int, **fields: str) -> Any:
        headers = {"Origin": self._origin, "Referer": f"{self._origin}/"}
        headers["X-CSRFToken"] = self._cookies["csrftoken"]
        try:
            answer = requests.post(
                f"{self._origin}{path}",
                data=fields,
                headers=headers,
                cookies=self._cookies,
                timeout=PATIENCE,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise Refused(f"POST {path}: {error}") from error
        if answer.status_code != wanted:
            raise Refused(f"POST {path}: {answer.status_code}, expected {wanted}: {answer.text[:200]}")
        return answer
