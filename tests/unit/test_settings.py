import runpy
from pathlib import Path
from typing import Any

import pytest

SETTINGS = Path(__file__).resolve().parents[2] / "app" / "settings.py"
PRODUCTION = {"ENVIRONMENT": "production", "SECRET_KEYS": "k" * 32, "ALLOWED_HOSTS": "chat.example.org"}


def read(monkeypatch: pytest.MonkeyPatch, **environment: str | None) -> dict[str, Any]:
    """The settings as they come from this environment; None takes a variable away."""
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return runpy.run_path(str(SETTINGS))


def complaint(monkeypatch: pytest.MonkeyPatch, **environment: str | None) -> str:
    with pytest.raises(SystemExit) as ended:
        read(monkeypatch, **environment)
    return str(ended.value.code)


def test_production_starts_with_its_secrets_and_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, **PRODUCTION)
    assert settings["SECRET_KEY"] == "k" * 32
    assert settings["SESSION_COOKIE_SECURE"] and settings["CSRF_COOKIE_SECURE"]
    assert settings["ALLOWED_ORIGINS"] == []


@pytest.mark.parametrize("name", ["SECRET_KEYS", "ALLOWED_HOSTS"])
def test_production_has_no_default_for_what_keeps_it_safe(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    said = complaint(monkeypatch, **(PRODUCTION | {name: None}))
    assert said.startswith("carillon: ") and f'"{name}"' in said and "expected" in said


def test_a_short_key_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    said = complaint(monkeypatch, SECRET_KEYS="hunter2," + "k" * 32)
    assert '"SECRET_KEYS"' in said and "hunter2" not in said


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
