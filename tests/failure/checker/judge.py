"""Judges a run, message by message. Pure: it sees the record, never a server.

Everything stored must be seen by everybody who may see it; everything acknowledged must be stored where the
answer said; on each connection a stream goes on without a hole, a repetition or a step back; nobody gets what
they may not see; in the end all see what the database has.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.failure.checker.record import (
    DELETED,
    EDITED,
    GONE,
    MEMBER_CHANGED,
    POSTED,
    Account,
    Asked,
    Message,
    Received,
    Row,
    Rules,
    Run,
    Stay,
    StreamTruth,
)

LOST = "lost"
DOUBLED = "doubled"
DISORDERED = "out of order"
SHOWN = "shown to the wrong person"
WRONG = "differs from the database"
KINDS = (LOST, DOUBLED, DISORDERED, SHOWN, WRONG)

FINAL_REFUSALS = {"not_allowed", "not_found", "invalid_data", "not_joined"}
"""Answers that say: it is not stored, and will not be."""


NOBODY = ("", "visitor")
"""Roles of nobody in particular: enough in a public room only."""


@dataclass(frozen=True)
class Problem:
    """One promise that was broken. `key` and `client` are empty where it is not about one of them."""

    kind: str
    stream: str
    text: str
    sequence: int = 0
    key: str = ""
    client: str = ""


@dataclass
class Verdict:
    problems: list[Problem] = field(default_factory=list)
    acknowledged: int = 0
    deliveries: int = 0
    """Events that came live or as catch-up; what was paged is not counted."""

    def count(self, kind: str) -> int:
        """How many messages, not how many times somebody missed one of them."""
        return len({(one.stream, one.sequence, one.key) for one in self.problems if one.kind == kind})

    def counts(self) -> dict[str, int]:
        return {kind: self.count(kind) for kind in KINDS}


def judge(run: Run) -> Verdict:
    """Every broken promise in `run`."""
    verdict = Verdict()
    asked = [one for account in run.accounts for one in account.asked]
    verdict.acknowledged = sum(one.acknowledged is not None for one in asked)
    verdict.deliveries = sum(len(stay.received) for account in run.accounts for stay in account.stays)
    verdict.problems += _answers(run, asked)
    for stream, truth in run.truth.items():
        rights = Rights(run.rules.get(stream, Rules()), truth)
        verdict.problems += _stored(stream, truth, asked, rights)
        for account in run.accounts:
            for stay in account.stays:
                if stay.stream == stream:
                    verdict.problems += _in_order(account, stay)
                    verdict.problems += _true(account, stay, truth)
            verdict.problems += _went_back(stream, account)
            verdict.problems += _entitled(stream, account, rights)
            if rights.at_end(account.person):
                verdict.problems += _complete(stream, account, truth)
    verdict.problems += _strays(run)
    return verdict


def _strays(run: Run) -> Iterator[Problem]:
    """What came to somebody who was not in the stream: it may even be that they must not see it."""
    for account in run.accounts:
        for stream, event in account.strays:
            truth = run.truth.get(stream)
            rights = Rights(run.rules.get(stream, Rules()), truth) if truth else None
            allowed = rights is not None and rights.may_see(account.person, event.sequence)
            text = f"{event.event} came to {account.client}, who was not in the stream"
            kind = DISORDERED if allowed else SHOWN
            yield Problem(kind, stream, text, event.sequence, event.about, account.client)


class Rights:
    """Who may see which sequence of a stream. Public: everybody but the banned; else members only."""

    def __init__(self, rules: Rules, truth: StreamTruth) -> None:
        self._rules = rules
        self._last = truth.last_sequence
        self._changes: dict[str, list[tuple[int, bool]]] = defaultdict(list)
        for row in truth.rows:
            if row.removes:
                self._changes[row.removes].append((row.sequence, False))
            elif row.kind == MEMBER_CHANGED and row.person:
                allowed = row.role != "banned" and (rules.public or row.role not in NOBODY)
                self._changes[row.person].append((row.sequence, allowed))

    def may_see(self, person: str, sequence: int) -> bool:
        """The event that takes somebody's right away is the last that they see."""
        allowed = self._rules.public or person in self._rules.members
        for changed, becomes in self._changes[person]:
            if changed < sequence or (becomes and changed == sequence):
                allowed = becomes
        return allowed

    def at_end(self, person: str) -> bool:
        return self.may_see(person, self._last + 1)


def _answers(run: Run, asked: list[Asked]) -> Iterator[Problem]:
    """What was acknowledged is stored once, where the answers said; what was refused is not."""
    stored: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for stream, truth in run.truth.items():
        for row in truth.rows:
            stored[row.key].append((stream, row))
    for one in asked:
        rows = stored[one.key]
        home = run.truth.get(one.stream)
        if len(rows) > 1:
            yield Problem(DOUBLED, one.stream, f"is stored {len(rows)} times", rows[1][1].sequence, one.key)
        places = {(answer.epoch, answer.sequence) for answer in one.answers if not answer.error}
        if len({epoch for epoch, _ in places}) < len(places):
            text = f"was answered with several places: {sorted(place for _, place in places)}"
            yield Problem(DOUBLED, one.stream, text, 0, one.key)
        first = one.acknowledged
        if first is None:
            refused = one.answers and all(answer.error in FINAL_REFUSALS for answer in one.answers)
            # To who was removed from it, a room for members is not there any more.
            public = run.rules.get(one.stream, Rules()).public
            ends = {"not_allowed"} if public else {"not_allowed", "not_found"}
            if one.kind == POSTED and (not one.answers or one.answers[-1].error not in ends):
                told = one.answers[-1].error if one.answers else "nothing"
                text = f"was never acknowledged: its sender was told {told}"
                yield Problem(WRONG, one.stream, text, rows[0][1].sequence if rows else 0, one.key)
            if refused and rows:
                text = f"is stored, though its sender was told {one.answers[-1].error}"
                yield Problem(WRONG, one.stream, text, rows[0][1].sequence, one.key)
        elif one.key in run.forgiven:
            continue
        elif home is None or (not rows and not _purged(one, first.sequence, home)):
            text = "was acknowledged and is not in the database"
            yield Problem(LOST, one.stream, text, first.sequence, one.key)
        elif rows and (rows[0][0] != one.stream or rows[0][1].sequence not in {place for _, place in places}):
            text = f"is stored at {rows[0][1].sequence}, the answer said {first.sequence}"
            yield Problem(WRONG, one.stream, text, first.sequence, one.key)


def _purged(asked: Asked, sequence: int, truth: StreamTruth) -> bool:
    return sequence <= truth.floor and (asked.kind != POSTED or asked.key in truth.messages)


def _stored(stream: str, truth: StreamTruth, asked: list[Asked], rights: Rights) -> Iterator[Problem]:
    """The database's own account: no hole in the sequence, no text twice, nobody wrote who may not."""
    sequences = [row.sequence for row in truth.rows]
    if sequences != list(range(truth.floor + 1, truth.last_sequence + 1)):
        text = f"the journal has a hole between {truth.floor + 1} and {truth.last_sequence}"
        missing = sorted(set(range(truth.floor + 1, truth.last_sequence + 1)) - set(sequences))
        yield Problem(LOST, stream, text, missing[0] if missing else 0)
    texts = Counter(message.text for message in truth.messages.values() if message.text)
    for key, message in truth.messages.items():
        if message.text and texts[message.text] > 1:
            yield Problem(DOUBLED, stream, "its text is stored twice", message.sequence, key)
    persons = {one.person for one in asked}
    for row in truth.rows:
        if row.sender in persons and not rights.may_see(row.sender, row.sequence):
            text = f"{row.sender} wrote {row.kind} after losing the right to"
            yield Problem(WRONG, stream, text, row.sequence, row.key)


def _in_order(account: Account, stay: Stay) -> Iterator[Problem]:
    """Each event follows on the one before."""
    position = stay.after
    seen: set[int] = set()
    for event in stay.received:
        where = f"to {account.client} on {stay.node}"
        if event.sequence in seen or event.sequence <= stay.after:
            yield _of(DOUBLED, account, stay, event, f"came again {where}")
        elif event.sequence < position:
            yield _of(DISORDERED, account, stay, event, f"came after {position} {where}")
        elif event.sequence > position + 1:
            yield _of(DISORDERED, account, stay, event, f"came right after {position} {where}")
        seen.add(event.sequence)
        position = max(position, event.sequence)


def _went_back(stream: str, account: Account) -> Iterator[Problem]:
    """A later stay begins where an earlier one of the same life ended, or after it."""
    reached: dict[int, int] = {}
    for stay in account.stays:
        if stay.stream != stream:
            continue
        if stay.after < reached.get(stay.epoch, 0):
            text = f"{account.client} was at {reached[stay.epoch]} and was sent back to {stay.after}"
            yield Problem(DOUBLED, stream, text, stay.after, client=account.client)
        reached[stay.epoch] = max(reached.get(stay.epoch, 0), stay.position)


def _true(account: Account, stay: Stay, truth: StreamTruth) -> Iterator[Problem]:
    """What came is what is stored there. Of another life of the stream nothing is known any more."""
    if stay.epoch != truth.epoch:
        return
    rows = {row.sequence: row for row in truth.rows}
    for event in stay.received:
        row = rows.get(event.sequence)
        if row is None and event.sequence > truth.last_sequence:
            yield _of(WRONG, account, stay, event, f"came to {account.client} and is not in the database")
        elif row is not None and event.about and event.about != _about(row):
            text = f"came to {account.client} as {event.event} of {event.about}, stored is {_about(row)}"
            yield _of(WRONG, account, stay, event, text)


def _about(row: Row) -> str:
    return row.subject if row.kind in (EDITED, DELETED) else row.key if row.kind == POSTED else ""


def _entitled(stream: str, account: Account, rights: Rights) -> Iterator[Problem]:
    """Nobody got what they may not see: live, caught up with, or by paging."""
    person = account.person
    for stay in account.stays:
        if stay.stream == stream:
            for event in stay.received:
                if not rights.may_see(person, event.sequence):
                    yield _of(SHOWN, account, stay, event, f"came to {account.client}, who may not see it")
    for key, (sequence, _) in account.paged.get(stream, {}).items():
        if not rights.may_see(person, sequence):
            text = f"{account.client} paged to it and may not see it"
            yield Problem(SHOWN, stream, text, sequence, key, account.client)


def _complete(stream: str, account: Account, truth: StreamTruth) -> Iterator[Problem]:
    """Every stored message was seen, and is in the end what the database has."""
    if not any(stay.stream == stream for stay in account.stays):
        return  # it never meant to be here
    view = account.views.get(stream, {})
    received = {event.about for stay in account.stays if stay.stream == stream for event in stay.received}
    seen = received | account.paged.get(stream, {}).keys() | view.keys()
    for key, message in truth.messages.items():
        if message.sequence < account.horizon.get(stream, 0):
            continue
        mine = view.get(key)
        if key not in seen:
            yield Problem(
                LOST, stream, f"never came to {account.client}", message.sequence, key, account.client
            )
        elif mine is None or _shown(mine) != _shown(message):
            text = f"is {_words(mine)} to {account.client}, {_words(message)} in the database"
            yield Problem(WRONG, stream, text, message.sequence, key, account.client)
    for key in view.keys() - truth.messages.keys():
        text = f"{account.client} still shows it; the database does not have it"
        yield Problem(WRONG, stream, text, view[key].sequence, key, account.client)
    last = account.last_stay(stream)
    if last is not None and last.epoch == truth.epoch and last.position < truth.last_sequence:
        text = f"{account.client} stopped at {last.position} of {truth.last_sequence}"
        missed = next((row for row in truth.rows if row.sequence == last.position + 1), None)
        key = (_about(missed) or missed.key) if missed else ""
        yield Problem(LOST, stream, text, last.position + 1, key, account.client)
    elif last is not None and last.epoch != truth.epoch:
        text = f"{account.client} is still in another life of the stream"
        yield Problem(WRONG, stream, text, client=account.client)


def _shown(message: Message) -> Message:
    return GONE if message.deleted else message


def _words(message: Message | None) -> str:
    if message is None:
        return "not there"
    if message.deleted:
        return "deleted"
    return f"{message.text!r} at {message.sequence}{' (edited)' if message.edited else ''}"


def _of(kind: str, account: Account, stay: Stay, event: Received, text: str) -> Problem:
    return Problem(kind, stay.stream, text, event.sequence, event.about, account.client)
