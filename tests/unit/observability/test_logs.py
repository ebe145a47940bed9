"""Log lines as JSON."""

import json
import logging
import sys

import pytest

from app.observability.logs import JsonFormatter


def record(text: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("app.chat", logging.WARNING, __file__, 1, text, arguments, None)
    vars(made).update(more)
    return made


@pytest.fixture
def formatter() -> JsonFormatter:
    return JsonFormatter("node-1")


def test_a_line_says_when_where_and_what(formatter: JsonFormatter) -> None:
    line = json.loads(formatter.format(record("%d of %s", 3, "„four“", created=1.5)))
    assert line == {
        "time": "1970-01-01T00:00:01.500000Z",
        "level": "WARNING",
        "logger": "app.chat",
        "node": "node-1",
        "message": "3 of „four“",
    }


def test_a_line_about_a_connection_names_it(formatter: JsonFormatter) -> None:
    assert json.loads(formatter.format(record("failed", connection="5f-1")))["connection"] == "5f-1"


def test_an_error_with_its_traceback_is_one_line(formatter: JsonFormatter) -> None:
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        text = formatter.format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in text
    assert json.loads(text)["exception"].endswith("RuntimeError: two\nlines")
