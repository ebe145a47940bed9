"""Somebody without a browser: cookies, forms and connections of one person, at one door of a deployment."""

import json
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from http.cookies import SimpleCookie
from ssl import SSLContext
from typing import Final
from urllib.parse import urlencode, urlsplit

from websockets.sync.client import ClientConnection, connect

PATIENCE: Final = 30.0
"""Seconds until a request is given up; a busy machine is no failure."""
PASSWORD: Final = "a long walk on the beach"


@dataclass(frozen=True)
class Door:
    """Where people come in: what a browser's address bar says, and where that really leads."""

    origin: str
    address: tuple[str, int]
    tls: SSLContext | None = None

    @property
    def host(self) -> str:
        """What requests ask for: `name[:port]`."""
        return urlsplit(self.origin).netloc


@dataclass(frozen=True)
class Answer:
    """An HTTP response: its status, its text, where it leads."""

    status: int
    text: str
    location: str


class Visitor:
    """One person's cookies, and what is done with them."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.cookies = {"csrftoken": secrets.token_hex(16)}

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def get(self, path: str) -> Answer:
        return self._request("GET", path, None, {})

    def post(self, path: str, headers: Mapping[str, str] | None = None, /, **fields: str) -> Answer:
        own = {
            "Origin": self.door.origin,
            "X-CSRFToken": self.cookies["csrftoken"],
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self._request("POST", path, urlencode(fields), {**own, **(headers or {})})

    def sign_up(self, name: str) -> None:
        self._submit("/accounts/sign-up/", username=name, password1=PASSWORD, password2=PASSWORD)

    def log_in(self, name: str) -> None:
        self._submit("/accounts/log-in/", username=name, password=PASSWORD)

    def enter_as_guest(self, name: str) -> None:
        self._submit("/accounts/guest/", name=name)

    def ticket(self) -> str:
        answer = self.post("/accounts/ticket/")
        assert answer.status == 200, answer
        return str(json.loads(answer.text)["ticket"])

    def connect(
        self, path: str = "/realtime/", *, origin: str | None, ticket: str | None = None, cookie: bool = False
    ) -> ClientConnection:
        """A connection; raises `InvalidStatus` when it is refused."""
        subprotocols = ["carillon.v1"] + ([f"carillon.ticket.{ticket}"] if ticket else [])
        scheme = "wss" if self.door.tls else "ws"
        return connect(
            f"{scheme}://{self.door.host}{path}",
            sock=socket.create_connection(self.door.address, timeout=PATIENCE),
            ssl=self.door.tls,
            origin=origin,  # type: ignore[arg-type]  # a NewType of str
            subprotocols=subprotocols,  # type: ignore[arg-type]
            additional_headers={"Cookie": self.cookie} if cookie else None,
            compression=None,
            proxy=None,
            open_timeout=PATIENCE,
        )

    def _submit(self, path: str, **fields: str) -> None:
        """A form that leads elsewhere when it was filled in rightly."""
        answer = self.post(path, **fields)
        assert answer.status == 302, answer

    def _request(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        host, port = self.door.address
        http = (
            HTTPSConnection(host, port, timeout=PATIENCE, context=self.door.tls)
            if self.door.tls
            else HTTPConnection(host, port, timeout=PATIENCE)
        )
        try:
            http.request(method, path, body, {"Host": self.door.host, "Cookie": self.cookie, **headers})
            response = http.getresponse()
            for value in response.headers.get_all("Set-Cookie", []):
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(value).items()}
            text = response.read().decode()
            return Answer(response.status, text, response.headers.get("Location", ""))
        finally:
            http.close()
