"""Whether each connection is still its person's: the one place that closes those that are not any more."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import ClassVar, Protocol

from app.accounts.events import account_subject, session_subject
from app.accounts.rechecks import Rechecks
from app.accounts.selectors import claims_that_no_longer_hold
from app.accounts.tickets import Claim
from app.realtime.node import Node


class Closable(Protocol):
    """A connection of whatever kind."""

    closing: bool

    def close(self, code: int) -> None:
        """Tell the client why, and close."""


class Verification(Rechecks[Closable, Claim, Claim, int]):
    """One node's connections, and what each came in with."""

    subjects: ClassVar[tuple[str, ...]] = ("account.", "session.")
    what: ClassVar[str] = "verifying connections"

    def questions(self, owner: Closable, value: Claim) -> Iterable[Claim]:
        return () if owner.closing else (value,)

    def concerned(self, owner: Closable, value: Claim, subjects: Set[str]) -> bool:
        if account_subject(value.identity.id) in subjects:
            return True
        return bool(value.session) and session_subject(value.session) in subjects

    def judge(self, questions: Sequence[Claim]) -> Mapping[Claim, int]:
        return claims_that_no_longer_hold(questions)

    def revoke(self, owner: Closable, question: Claim, verdict: int) -> None:
        owner.close(verdict)


def verification_of(node: Node) -> Verification:
    """The verification of `node`, made when it is first asked for."""
    return node.part(Verification)
