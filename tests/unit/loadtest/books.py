"""Accounts for tests of the judge: who said and heard what, as two processes would have written it down."""

from loadtest.proof.account import Account, Book, Line, Listener, Said, digest

ROOM = Line("message", "room.load-1", 7, "")


def listener(receiver: str, node: str, after: int = 0, line: Line = ROOM) -> Listener:
    return Listener(receiver, node, line.kind, line.place, line.epoch, after)


def said(sequence: int, by: str = "ada", node: str = "node-1", line: Line = ROOM, text: str = "") -> Said:
    return Said(line, sequence, digest(text or f"text {sequence}"), by, node)


def hear(account: Account, who: Listener, *sequences: int, sender: str = "", text: str = "") -> None:
    for sequence in sequences:
        account.hear(who, sender, sequence, text or f"text {sequence}")


def book(account: Account) -> Book:
    made = Book()
    made.merge(account.news())
    return made
