import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.template.backends.django import DjangoTemplates

import app.settings

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {"ENVIRONMENT": "production", "SECRET_KEYS": "k" * 32, "ALLOWED_HOSTS": "chat.example.org"}


def read(monkeypatch: pytest.MonkeyPatch, **environment: str | None) -> dict[str, Any]:
    """The settings as they come from this environment; None takes a variable away."""
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    # As a new process would read them; what this one has read comes back after the test.
    monkeypatch.setattr(app, "settings", app.settings)
    for name in [name for name in sys.modules if re.match(r"app\.settings\b", name)]:
        monkeypatch.delitem(sys.modules, name)
    return vars(importlib.import_module("app.settings"))


def complaint(monkeypatch: pytest.MonkeyPatch, **environment: str | None) -> str:
    with pytest.raises(SystemExit) as ended:
        read(monkeypatch, **environment)
    return str(ended.value.code)


def test_production_starts_with_its_secrets_and_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, **PRODUCTION)
    assert settings["SECRET_KEY"] == "k" * 32
    assert settings["SESSION_COOKIE_SECURE"] and settings["CSRF_COOKIE_SECURE"]
    assert settings["ALLOWED_ORIGINS"] == []


def test_plain_http_in_production_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, **PRODUCTION, HTTPS="false")
    assert not settings["SESSION_COOKIE_SECURE"] and not settings["CSRF_COOKIE_SECURE"]


def test_no_proxy_is_trusted_until_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch)["TRUSTED_PROXIES"] == []
    settings = read(monkeypatch, TRUSTED_PROXIES="10.0.0.0/8,192.0.2.1,2001:db8::/32")
    assert settings["TRUSTED_PROXIES"] == [
        *("10.0.0.0/8", "::ffff:10.0.0.0/104"),
        *("192.0.2.1/32", "::ffff:192.0.2.1/128"),
        "2001:db8::/32",
    ]


@pytest.mark.parametrize("name", ["SECRET_KEYS", "ALLOWED_HOSTS"])
def test_production_has_no_default_for_what_keeps_it_safe(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    said = complaint(monkeypatch, **(PRODUCTION | {name: None}))
    assert said.startswith("carillon: ") and f'"{name}"' in said and "expected" in said


@pytest.mark.parametrize("name", ["SECRET_KEYS", "CHANNEL_ENCRYPTION_KEYS"])
def test_a_short_key_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    said = complaint(monkeypatch, **{name: "hunter2," + "k" * 32})
    assert f'"{name}"' in said and "hunter2" not in said


def test_postgres_gets_a_pool_and_is_given_up_when_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgres://ada:s%2Fecret@db:6432/chat?sslmode=require&connect_timeout=9"
    settings = read(monkeypatch, DATABASE_URL=url, DATABASE_POOL_SIZE="3", NODE_NAME="web-1")
    database = settings["DATABASES"]["default"]
    assert (database["USER"], database["PASSWORD"], database["HOST"]) == ("ada", "s/ecret", "db")
    assert (database["PORT"], database["NAME"]) == (6432, "chat")
    options = database["OPTIONS"]
    assert options["sslmode"] == "require" and options["connect_timeout"] == 9
    assert options["application_name"] == "carillon/web-1"
    assert options["keepalives_idle"] and options["tcp_user_timeout"]
    assert options["pool"]["max_size"] == 3 and database["CONN_HEALTH_CHECKS"]


def test_without_a_pool_each_request_has_a_connection_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, DATABASE_URL="postgres://ada@db/chat", DATABASE_POOL_SIZE="0")
    database = settings["DATABASES"]["default"]
    assert "pool" not in database["OPTIONS"] and database["CONN_MAX_AGE"] == 0


@pytest.mark.parametrize("size", ["0", "1"])
def test_nothing_is_asked_that_a_pooler_between_would_refuse_or_forget(
    monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    settings = read(monkeypatch, DATABASE_URL="postgres://ada@db/chat", DATABASE_POOL_SIZE=size)
    database = settings["DATABASES"]["default"]
    assert database["DISABLE_SERVER_SIDE_CURSORS"]
    assert not database["OPTIONS"].keys() & {"options", "prepare_threshold", "assume_role"}


@pytest.mark.parametrize("url", ["oracle://u:hunter2@h/n", "mysql://u:hunter2@h/n"])
def test_a_database_that_is_not_supported_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    said = complaint(monkeypatch, DATABASE_URL=url)
    assert "sqlite or postgres" in said and url.partition(":")[0] in said and "hunter2" not in said


def test_the_first_key_signs_and_all_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SECRET_KEYS=",".join(letter * 32 for letter in "abc"))
    assert settings["SECRET_KEY"] == "a" * 32
    assert settings["SECRET_KEY_FALLBACKS"] == ["b" * 32, "c" * 32]


def test_origins_are_kept_as_browsers_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    written = "https://Chat.Example.org:443,http://localhost:8000,http://[::1]:80"
    settings = read(monkeypatch, ALLOWED_ORIGINS=written)
    assert settings["ALLOWED_ORIGINS"] == [
        "https://chat.example.org",
        "http://localhost:8000",
        "http://[::1]",
    ]
    assert settings["CSRF_TRUSTED_ORIGINS"] == settings["ALLOWED_ORIGINS"]


@pytest.mark.parametrize(
    "origin",
    [
        "chat.example.org",
        "https://chat.example.org/",
        "https://chat.example.org/chat",
        "https://*.example.org",
        "*",
        "null",
        "wss://chat.example.org",
        "https://ada@chat.example.org",
        "https://chat.example.org:port",
        "https://",
        "https://chat.example.org?x",
    ],
)
def test_an_origin_that_no_browser_sends_ends_the_start(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    said = complaint(monkeypatch, ALLOWED_ORIGINS=f"https://fine.example.org,{origin}")
    assert said == (
        'carillon: Environment variable "ALLOWED_ORIGINS" invalid: '
        f"expected scheme://host[:port], got {origin!r}"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ENVIRONMENT", "staging", "one of"),
        ("LOG_LEVEL", "loud", "one of"),
        ("TRACES_RATIO", "1.5", "less than or equal to 1"),
        ("CHANNEL_LAYER", "pigeons", "one of"),
        ("NODE_NAME", "node 1", "letters"),
        ("NODE_NAME", "node-1\n", "letters"),
        ("DEBUG", "perhaps", "boolean"),
        ("GUESTS_ALLOWED", "2", "boolean"),
        ("PUBLIC_PORT", "http", "integer"),
        ("PUBLIC_PORT", "", "integer"),
        ("PUBLIC_PORT", "70000", "65535"),
        ("INTERNAL_PORT", "-1", "65535"),
        ("TICKET_SECONDS", "1", "5"),
        ("FRAME_LIMIT_BYTES", "0", "greater than 0"),
        ("PING_SECONDS", "-1", "greater than 0"),
        ("PING_SECONDS", "soon", "number"),
        ("REDIS_PING_SECONDS", "nan", "not permitted"),
        ("REDIS_PING_SECONDS", "inf", "not permitted"),
        ("CHANNEL_MESSAGE_LIMIT_BYTES", "5", "1572864"),
        ("REDIS_SENTINELS", "redis-1", "host:port"),
        ("REDIS_SENTINELS", "redis-1:26379,redis-2:port", "host:port"),
        ("REDIS_SENTINELS", "redis-1:99999", "host:port"),
        ("REDIS_ADDRESS", "redis-1", "host:port"),
        ("HTTPS", "maybe", "boolean"),
        ("TRUSTED_PROXIES", "*", "10.0.0.0/8"),
        ("TRUSTED_PROXIES", "ingress.example", "10.0.0.0/8"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,10.1.2.3/16", "got '10.1.2.3/16'"),
        ("DATABASE_URL", "somewhere", "postgres://"),
        ("DATABASE_URL", "", "postgres://"),
        ("DATABASE_URL", "postgres://ada:hunter2@host", "name of a database"),
        ("DATABASE_URL", "postgres://ada:hunter2@host/name?sslmod=require", "'sslmod'"),
        ("DATABASE_POOL_SIZE", "-1", "0"),
        ("DATABASE_POOL_SIZE", "many", "integer"),
        ("DATABASE_CONNECT_SECONDS", "1", "2"),
        ("MIGRATION_LOCK_SECONDS", "0", "greater than 0"),
        ("MIGRATION_TURN_SECONDS", "-1", "greater than 0"),
    ],
)
def test_a_bad_value_ends_the_start_with_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    said = complaint(monkeypatch, **{name: value})
    assert said.startswith(f'carillon: Environment variable "{name}" invalid: ')
    assert expected in said
    assert "\n" not in said and "hunter2" not in said


@pytest.mark.parametrize("url", ["pigeon://ada:hunter2@host/name", "postgres://ada:hunter2@host:port/name"])
def test_a_bad_database_url_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    said = complaint(monkeypatch, DATABASE_URL=url)
    assert '"DATABASE_URL"' in said
    assert "hunter2" not in said


def test_a_bad_value_leaves_no_traceback_and_an_exit_code(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "app.manage", "check"],
        cwd=ROOT,
        env={"PUBLIC_PORT": "http", "DATA_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert ended.stderr.splitlines() == [
        'carillon: Environment variable "PUBLIC_PORT" invalid: Not a valid integer.'
    ]


def test_traces_without_their_libraries_end_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, TRACES_RATIO="0.5")["TRACES_RATIO"] == 0.5
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert read(monkeypatch, TRACES_RATIO="0")["TRACES_RATIO"] == 0
    said = complaint(monkeypatch, TRACES_RATIO="0.5")
    assert '"TRACES_RATIO"' in said and "requirements/traces.txt" in said


@pytest.mark.parametrize("debug", [True, False])
def test_templates_are_read_anew_at_each_use_while_debugging_and_only_then(
    monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    settings = read(monkeypatch, DEBUG=str(debug))
    configured = {"NAME": "one", "DIRS": [], "APP_DIRS": False} | settings["TEMPLATES"][0]
    del configured["BACKEND"]
    engine = DjangoTemplates(configured).engine
    first, second = engine.get_template("chat/index.html"), engine.get_template("chat/index.html")
    assert (first is not second) == debug
