"""The kinds of events that may be stored: each feature registers its own when it is loaded."""

import re
from typing import Final

from app.journal.entry import EventKind

BLANK_SUBJECT: Final = """
UPDATE journal_event SET payload = '' WHERE (position_id, sequence) IN (
    SELECT e.position_id, e.sequence FROM accepted a
    JOIN journal_event e ON e.key = a.subject AND e.position_id = a.position_id
    UNION
    SELECT e.position_id, e.sequence FROM accepted a
    JOIN journal_event e ON e.subject = a.subject AND e.position_id = a.position_id
    WHERE e.sequence < a.sequence
)"""
"""For `effects`: takes the text out of the event that this one is about, and of earlier ones about it."""

_kinds: Final[dict[str, EventKind]] = {}


def register(kind: EventKind) -> EventKind:
    """Make `kind` known. Once per name: a name stands for one set of rules."""
    if not re.fullmatch(r"[a-z_]+\.[a-z_]+", kind.name):
        raise ValueError(f"expected feature.what_happened, got {kind.name!r}")
    if not all(re.fullmatch(r"[a-z_]+", field) for field in kind.content):
        raise ValueError(f"expected names of fields, got {kind.content!r}")
    if _kinds.setdefault(kind.name, kind) != kind:
        raise ValueError(f"another {kind.name} is registered already")
    return kind


def kind(name: str) -> EventKind:
    """What the feature said of it. Raises `TypeError` when no feature did."""
    found = _kinds.get(name)
    if found is None:
        raise TypeError(f"no feature registered the kind {name!r}")
    return found
