"""Every close code that a node sends.

A client decides by range alone: 4000-4499 reconnect, 4500-4999 do not; 1012 is a node that drains.
"""

from typing import Final

from app.observability import metrics

GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
ABNORMAL: Final = 1006
INVALID_TEXT: Final = 1007
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
DRAIN: Final = 1012

SLOW_CONSUMER: Final = 4000
PONG_TIMEOUT: Final = 4001
CONSUMER_FAILED: Final = 4002
FLOODED: Final = 4003

UNAUTHENTICATED: Final = 4500
TOO_MANY_INVALID_FRAMES: Final = 4501
IDENTITY_REVOKED: Final = 4502
SESSION_ENDED: Final = 4503
PASSWORD_CHANGED: Final = 4504

REASONS: Final[dict[int, str]] = {
    GOING_AWAY: "going away",
    PROTOCOL_ERROR: "protocol error",
    UNSUPPORTED_DATA: "binary frames are not part of the protocol",
    INVALID_TEXT: "text is not UTF-8",
    TOO_BIG: "frame is too big",
    INTERNAL_ERROR: "internal error",
    DRAIN: "this node hands you over: reconnect to another",
    SLOW_CONSUMER: "unsent output passed its budget: reconnect",
    PONG_TIMEOUT: "no answer to a ping: reconnect",
    CONSUMER_FAILED: "the consumer failed: reconnect",
    FLOODED: "too many commands: reconnect later",
    UNAUTHENTICATED: "no valid ticket or session",
    TOO_MANY_INVALID_FRAMES: "too many invalid frames",
    IDENTITY_REVOKED: "this account may no longer connect",
    SESSION_ENDED: "this session has ended: log in again",
    PASSWORD_CHANGED: "the password was changed: log in again",
}
"""Close code to the reason that a client reads."""


def label(code: int) -> str:
    """The metric label of a close code: itself if a node may see it, else `other` (labels stay few)."""
    return str(code) if code in _LABELLED else "other"


_LABELLED: Final = frozenset(REASONS) | {1000, 1005, ABNORMAL}
metrics.appear(metrics.connections_closed, [*map(str, sorted(_LABELLED)), "other"])
