"""Log lines as JSON, one object a line, for whoever collects them (LOG_FORMAT=json).

`time`, `level`, `logger`, `node`, `message`; `connection` where the line is about one (the id that hello told
its client), `exception` with the traceback of an error. Never anything that opens a door.
"""

import logging
from datetime import UTC, datetime

import msgspec


class JsonFormatter(logging.Formatter):
    """Of the node of this name. A logger says which connection with `extra={"connection": …}`."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "node": self._node,
            "message": record.getMessage(),
        }
        if connection := getattr(record, "connection", ""):
            line["connection"] = connection
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
