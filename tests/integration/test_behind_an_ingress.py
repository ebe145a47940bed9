"""A node as it stands in a cluster: whose pages it believes, and whose word about who is there."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest

from deploy.local.ports import HOST
from tests.integration.serving.client import PATIENCE, Client, upgrade_request
from tests.integration.serving.servers import Server, prepare_database, server

TOKEN = "c" * 32


def production(folder: Path, **environment: str) -> dict[str, str]:
    """The environment of a node in production whose database is ready."""
    prepare_database(folder)
    return {
        "ENVIRONMENT": "production",
        "SECRET_KEYS": "k" * 32,
        "DATA_FOLDER": str(folder),
        **environment,
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A demo behind plain http, or a port-forward."""
    hosts = "chat.example,localhost,127.0.0.1"
    environment = production(tmp_path_factory.mktemp("plain"), HTTPS="false", ALLOWED_HOSTS=hosts)
    with server("carillon", **environment) as one:
        yield one


@pytest.fixture(scope="module")
def behind_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """TLS ends before the node, which trusts no proxy to say so."""
    environment = production(
        tmp_path_factory.mktemp("tls"),
        ALLOWED_HOSTS="chat.example",
        ALLOWED_ORIGINS="https://chat.example,https://partner.example",
    )
    with server("carillon", **environment) as one:
        yield one


def enter(node: Server, host: str, origins: list[str]) -> tuple[int, str]:
    """Post the form by which guests come in: the status, and the session's cookie as it was set."""
    body = urlencode({"name": "Ada"})
    http = HTTPConnection(HOST, node.port, timeout=PATIENCE)
    http.putrequest("POST", "/accounts/guest/", skip_host=True)
    http.putheader("Host", host)
    for origin in origins:
        http.putheader("Origin", origin)
    http.putheader("Cookie", f"csrftoken={TOKEN}")
    http.putheader("X-CSRFToken", TOKEN)
    http.putheader("Content-Type", "application/x-www-form-urlencoded")
    http.putheader("Content-Length", str(len(body)))
    http.endheaders(body.encode())
    response = http.getresponse()
    cookies = response.headers.get_all("Set-Cookie", [])
    http.close()
    return response.status, next((cookie for cookie in cookies if cookie.startswith("sessionid=")), "")


async def connect(node: Server, host: str, origins: list[str], cookie: str) -> int:
    """The status of an upgrade with the cookie."""
    request = upgrade_request("/realtime/", Host=host, Cookie=cookie.partition(";")[0])
    fields = "".join(f"Origin: {origin}\r\n" for origin in origins).encode()
    async with await Client.open(node.port) as client:
        client.write(request[:-2] + fields + b"\r\n")
        status, _ = await client.response()
        return int(status.split()[1])


@pytest.mark.parametrize(
    ("where", "host", "origin"),
    [
        ("plain", "chat.example", "http://chat.example"),
        ("plain", "chat.example:8080", "http://chat.example:8080"),
        ("plain", "localhost:8123", "http://localhost:8123"),
        ("plain", "127.0.0.1:8123", "http://127.0.0.1:8123"),
        ("behind_tls", "chat.example", "https://chat.example"),
        ("behind_tls", "chat.example:8443", "https://chat.example:8443"),
        ("behind_tls", "chat.example", "https://partner.example"),
    ],
)
async def test_people_come_in_by_form_and_by_websocket(
    request: pytest.FixtureRequest, where: str, host: str, origin: str
) -> None:
    node: Server = request.getfixturevalue(where)
    status, cookie = enter(node, host, [origin])
    assert status == 302
    assert ("Secure" in cookie) == (where == "behind_tls")
    assert await connect(node, host, [origin], cookie) == 101


@pytest.mark.parametrize(
    ("where", "host", "origins"),
    [
        ("plain", "chat.example", ["http://evil.example"]),
        ("plain", "chat.example:8080", ["http://chat.example:8081"]),
        ("plain", "evil.example", ["http://evil.example"]),
        ("plain", "chat.example", ["null"]),
        ("plain", "chat.example", ["http://chat.example", "http://chat.example"]),
        ("plain", "chat.example", ["http://evil.example", "http://chat.example"]),
        ("behind_tls", "chat.example", ["http://chat.example"]),
        ("behind_tls", "chat.example", ["https://evil.example"]),
        ("behind_tls", "evil.example", ["https://evil.example"]),
        ("behind_tls", "localhost:8123", ["http://localhost:8123"]),
        ("behind_tls", "chat.example", ["null"]),
        ("behind_tls", "chat.example", ["https://chat.example", "https://chat.example"]),
    ],
)
async def test_no_other_page_comes_in_by_either(
    request: pytest.FixtureRequest, where: str, host: str, origins: list[str]
) -> None:
    node: Server = request.getfixturevalue(where)
    good = "http://chat.example" if where == "plain" else "https://chat.example"
    _, cookie = enter(node, "chat.example", [good])
    assert enter(node, host, origins)[0] in (400, 403)
    assert await connect(node, host, origins, cookie) == 403


# --- Forwarded headers -------------------------------------------------------------------------------

FAST, STOCK, HTTP = "/realtime/seen/", "/seen/", "http"


async def seen(node: Server, door: str, *headers: tuple[str, str]) -> tuple[str, str]:
    """The client's address and the scheme that the application is told."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
    if door == HTTP:
        request = b"GET /seen/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    else:
        request = upgrade_request(door)[:-2]
    async with await Client.open(node.port) as client:
        client.write(request + fields + b"\r\n")
        status, _ = await client.response()
        assert status.startswith("HTTP/1.1 403 "), status
        body = (await client.reader.read()).decode()
    found = json.loads(body[body.index("{") : body.rindex("}") + 1])
    return found["client"], found["scheme"]


@pytest.fixture(scope="module", params=["nobody", "others"])
def wary(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Trusts no proxy, or others than this test; what the servers' own variables say does not count."""
    trusted = {"nobody": "", "others": "10.0.0.0/8,2001:db8::/32"}[request.param]
    arguments = "--forwarded-allow-ips=*"
    with server(TRUSTED_PROXIES=trusted, FORWARDED_ALLOW_IPS="*", GUNICORN_CMD_ARGS=arguments) as one:
        yield one


@pytest.fixture(scope="module")
def trusting() -> Iterator[Server]:
    with server(TRUSTED_PROXIES="127.0.0.0/8,10.0.0.0/8") as one:
        yield one


def scheme(door: str, secure: bool) -> str:
    return ("http" if door == HTTP else "ws") + ("s" if secure else "")


@pytest.mark.parametrize("door", [FAST, STOCK, HTTP])
async def test_who_is_no_trusted_proxy_cannot_say_who_is_there(wary: Server, door: str) -> None:
    told = await seen(wary, door, ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https"))
    assert told == (HOST, scheme(door, secure=False))


@pytest.mark.parametrize("door", [FAST, STOCK, HTTP])
async def test_a_trusted_proxy_says_who_is_there(trusting: Server, door: str) -> None:
    told = await seen(trusting, door, ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https"))
    assert told == ("203.0.113.7", scheme(door, secure=True))
    assert await seen(trusting, door) == (HOST, scheme(door, secure=False))


@pytest.mark.parametrize("door", [FAST, STOCK, HTTP])
async def test_of_several_hops_the_last_one_that_is_not_trusted_counts(trusting: Server, door: str) -> None:
    hops = ("X-Forwarded-For", "198.51.100.1, 203.0.113.7, 10.1.2.3"), ("X-Forwarded-For", "10.9.9.9")
    assert (await seen(trusting, door, *hops))[0] == "203.0.113.7"
