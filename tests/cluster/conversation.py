"""Several talkers, and the account of who heard whom: once, in order, and by all who were there."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Final

from tests.cluster.cluster import eventually
from tests.cluster.talker import Said, Stay, Talker
from tests.visitor import Door

HOP_SECONDS: Final = 8.0
"""How long a message may be on its way: what the bus loses, a node finds in the database within 5 s."""
PATIENCE_SECONDS: Final = 90.0


class Conversation:
    def __init__(self, talkers: Sequence[Talker]) -> None:
        self.talkers = talkers

    @classmethod
    @contextmanager
    def of(cls, count: int, door: Door) -> Iterator["Conversation"]:
        """So many guests who hear each other. What went wrong in one of them is raised at the end."""
        with ExitStack() as stack:
            talkers = [stack.enter_context(Talker(f"guest-{number}", door)) for number in range(count)]
            conversation = cls(talkers)
            conversation.all_hear_all()
            yield conversation
        conversation._raise_trouble()

    def all_hear_all(self, elsewhere: Sequence[str] = ()) -> None:
        """Wait until everybody is on a node that is none of `elsewhere`, and has heard everybody there."""
        names = {talker.name for talker in self.talkers}

        def heard() -> bool:
            self._raise_trouble()
            stays = [talker.stays[-1] for talker in self.talkers if talker.node]
            since = max((stay.joined for stay in stays), default=0.0) + HOP_SECONDS
            return len(stays) == len(names) and all(
                stay.node not in elsewhere and {one.sender for one in stay.heard if one.at > since} == names
                for stay in stays
            )

        try:
            eventually(heard, "all hear all", PATIENCE_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._where()}") from None

    def nodes(self) -> set[str]:
        return {talker.node for talker in self.talkers if talker.node}

    def away(self) -> list[float]:
        """Seconds that somebody was away, for each time."""
        return [seconds for talker in self.talkers for seconds in talker.away()]

    def codes(self) -> set[int | None]:
        """With what connections ended; None: without a close frame."""
        return {stay.code for talker in self.talkers for stay in talker.stays[:-1]}

    def check(self) -> int:
        """What is promised was kept; how many messages were said. To be called when the talking is over."""
        claims = 0
        for listener in self.talkers:
            for stay in listener.stays:
                self._check_order(listener, stay)
                for speaker in self.talkers:
                    for part in speaker.stays:
                        claims += self._check_claims(listener, stay, speaker, part)
        assert claims, "nobody had a claim to anything: this checked nothing"
        return sum(len(stay.said) for talker in self.talkers for stay in talker.stays)

    def _check_order(self, listener: Talker, stay: Stay) -> None:
        for speaker in self.talkers:
            numbers = [one.number for one in stay.heard if one.sender == speaker.name]
            disorder = [(one, two) for one, two in pairwise(numbers) if one >= two]
            assert not disorder, f"{listener.name} heard {speaker.name} twice or out of order: {disorder}"

    def _check_claims(self, listener: Talker, stay: Stay, speaker: Talker, part: Stay) -> int:
        """Whoever was there from before it was said until well after heard what was answered."""
        until = (stay.left or float("inf")) - HOP_SECONDS
        claims: list[Said] = [
            said
            for said in part.said
            if said.answered is not None and stay.joined < said.asked and said.answered < until
        ]
        heard = {one.number for one in stay.heard if one.sender == speaker.name}
        lost = [said.number for said in claims if said.number not in heard]
        assert not lost, f"{listener.name} on {stay.node} did not hear {speaker.name} say {lost}"
        return len(claims)

    def _raise_trouble(self) -> None:
        for talker in self.talkers:
            if talker.trouble is not None:
                raise talker.trouble

    def _where(self) -> str:
        return ", ".join(f"{one.name} on {one.node or 'no node'} {one.refusals[-3:]}" for one in self.talkers)
