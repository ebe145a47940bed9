"""A stranger's way in over HTTP: a guest's cookie, a ticket, a room that is opened. As a browser would."""

import secrets
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import requests

from loadtest.waits import told

PATIENCE: Final = 30.0
"""Seconds until a request is given up."""


class Refused(Exception):
    """The door did not let us in; the text says which one and why. `retry_after`: as `ConnectFailed`'s."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Door(NamedTuple):
    """Where a deployment is asked, and under which name: both `http[s]://host[:port]`.

    They differ inside of a cluster: its nodes answer to the name that people know, not to their Service's.
    """

    url: str
    origin: str

    @property
    def name(self) -> str:
        """For the `Host` header."""
        return urlsplit(self.origin).netloc


class Visitor:
    """One guest at one deployment."""

    def __init__(self, door: Door) -> None:
        self._door = door
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
        door = self._door
        headers = {"Host": door.name, "Origin": door.origin, "Referer": f"{door.origin}/"}
        headers["X-CSRFToken"] = self._cookies["csrftoken"]
        try:
            answer = requests.post(
                f"{door.url}{path}",
                data=fields,
                headers=headers,
                cookies=self._cookies,
                timeout=PATIENCE,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise Refused(f"POST {path}: {error}") from error
        if answer.status_code != wanted:
            said = f"POST {path}: {answer.status_code}, expected {wanted}: {answer.text[:200]}"
            raise Refused(said, told(answer.headers.get("Retry-After")))
        return answer
