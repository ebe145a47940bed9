"""How long acknowledged messages take from node to node. Pure: it sees the record, never a server."""

from collections.abc import Iterable

from tests.failure.checker.record import Account, Answer


def crossing_seconds(accounts: Iterable[Account], began: float, ended: float) -> list[float]:
    """From each answer in that time to each receipt by a client that was on another node then, shortest
    first. Who hears of it before the sender does waited for nothing."""
    accounts = list(accounts)
    answers: dict[tuple[str, int, int], Answer] = {}
    for account in accounts:
        for asked in account.asked:
            answer = asked.acknowledged
            if answer is not None and began <= answer.at <= ended:
                answers[asked.stream, answer.epoch, answer.sequence] = answer
    return sorted(
        max(0.0, event.at - answer.at)
        for account in accounts
        for stay in account.stays
        for event in stay.received
        if (answer := answers.get((stay.stream, stay.epoch, event.sequence))) is not None
        if stay.node != answer.node and stay.began <= answer.at
    )
