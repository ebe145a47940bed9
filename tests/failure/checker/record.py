"""What happened in a run, as clients saw it and as the database has it. Words only: nothing here judges.

Times are seconds since the run began.
"""

from dataclasses import dataclass, field

POSTED = "chat.message_posted"
EDITED = "chat.message_edited"
DELETED = "chat.message_deleted"
MEMBER_CHANGED = "chat.member_changed"
MEMBER_REMOVED = "chat.member_removed"


@dataclass(frozen=True)
class Message:
    """A message as somebody sees it. A deleted one is only that: all of them are equal."""

    sequence: int = 0
    sender: str = ""
    text: str = ""
    edited: bool = False
    deleted: bool = False


GONE = Message(deleted=True)


@dataclass(frozen=True)
class Answer:
    """One answer to one command: a place in a stream, or the code of an error."""

    at: float
    node: str
    epoch: int = 0
    sequence: int = 0
    error: str = ""


@dataclass
class Asked:
    """A command that writes, with every answer to it: it may be sent again and again, with the same key."""

    stream: str
    kind: str
    key: str
    person: str
    client: str
    at: float
    text: str = ""
    subject: str = ""
    answers: list[Answer] = field(default_factory=list)

    @property
    def acknowledged(self) -> Answer | None:
        """The first answer that said: it is stored."""
        return next((answer for answer in self.answers if not answer.error), None)


@dataclass(frozen=True)
class Received:
    """One event as it came in over a connection. `about`: the id of the message, empty if it has none."""

    sequence: int
    event: str
    about: str
    at: float


@dataclass
class Stay:
    """One client in one stream on one connection: what came after `after`, in order of arrival."""

    stream: str
    node: str
    began: float
    epoch: int
    after: int
    received: list[Received] = field(default_factory=list)
    ended: float | None = None
    why: str = ""

    @property
    def position(self) -> int:
        """The sequence of the last event that came."""
        return self.received[-1].sequence if self.received else self.after


@dataclass
class Account:
    """All that one client did and saw."""

    client: str
    person: str
    asked: list[Asked] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)
    paged: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)
    """Stream to message id to (its sequence, when): what came in snapshots and history."""
    views: dict[str, dict[str, Message]] = field(default_factory=dict)
    """Stream to message id to what the client would show at the end."""
    strays: list[tuple[str, Received]] = field(default_factory=list)
    """Events of streams that it was not in."""
    horizon: dict[str, int] = field(default_factory=dict)
    """Stream to the sequence where its knowledge begins, for one who cannot page."""
    shut_out: set[str] = field(default_factory=set)
    """Streams that it was told it may not see."""
    errors: list[tuple[float, str]] = field(default_factory=list)

    def last_stay(self, stream: str) -> Stay | None:
        """The latest, ended or not."""
        return next((stay for stay in reversed(self.stays) if stay.stream == stream), None)


@dataclass(frozen=True)
class Row:
    """One event as the journal has it. `person` and `role`: whom a change of membership is about."""

    sequence: int
    key: str
    sender: str
    kind: str
    subject: str = ""
    removes: str = ""
    person: str = ""
    role: str = ""


@dataclass
class StreamTruth:
    """One stream as the database has it."""

    epoch: int
    floor: int
    last_sequence: int
    rows: list[Row]
    messages: dict[str, Message]


@dataclass(frozen=True)
class Rules:
    """Who may see a stream at the start: everybody, or its members."""

    public: bool = True
    members: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fault:
    """What was broken, and from when to when."""

    what: str
    began: float
    ended: float


@dataclass
class Run:
    """All there is to judge."""

    seed: int
    accounts: list[Account]
    truth: dict[str, StreamTruth]
    rules: dict[str, Rules]
    faults: list[Fault] = field(default_factory=list)
    forgiven: frozenset[str] = frozenset()
    """Keys that were acknowledged and then given up by an operator, who restored an older backup."""
