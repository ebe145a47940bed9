"""The numbers that rules are about, from the accounts of all processes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations

from loadtest.proof.account import Book
from loadtest.proof.judge import Finding, nodes_of

KINDS = ("message", "marker")
"""What is said into streams, and what by `group_send`: named `messages_…` and `markers_…` in the rules."""


def measure(
    books: Sequence[Book],
    findings: Mapping[str, Finding],
    *,
    target_users: int,
    expect_nodes: int,
    accounts_missing: int,
) -> dict[str, float | None]:
    """By the name of the rule; None: cannot be said."""
    counts: Counter[str] = sum((book.counts for book in books), Counter())
    hellos: Counter[str] = sum((book.hellos for book in books), Counter())
    said = [one for book in books for one in book.said]
    heard_of = {one.by for one in said}
    senders = {sender for book in books for sender in book.senders}
    nodes = nodes_of(findings, hellos)
    measured: dict[str, float | None] = {
        "users_missing": max(target_users, counts["users"]) - counts["joined"],
        "messages_acknowledged": sum(one.line.kind == "message" for one in said),
        "markers_said": sum(one.line.kind == "marker" for one in said),
        "silent_senders": len(senders - heard_of),
        "commands_unanswered": counts["unanswered"],
        "commands_rejected": counts["rejected"],
        "connect_failures": counts["refused"] / counts["connects"] if counts["connects"] else None,
        "client_reconnects": counts["reconnects"],
        "resets": counts["resets"],
        "clients_away": counts["lost"] - counts["reconnects"],
        "clients_back": counts["back"] / counts["lost"] if counts["lost"] else None,
        "nodes_missing": expect_nodes - len(hellos),
        "node_skew": max(hellos.values()) * len(hellos) / hellos.total() if hellos else None,
        "greenlets_raised": sum(len(book.raised) for book in books),
        "accounts_missing": accounts_missing,
    }
    for kind in KINDS:
        finding = findings.get(kind, Finding())
        pairs = [finding.delivered[pair] for pair in permutations(nodes, 2)]
        measured |= {
            f"{kind}s_{fault}": finding.faults[fault]
            for fault in ("lost", "altered", "doubled", "misordered")
        }
        measured[f"{kind}s_per_pair"] = min(pairs) if pairs else None
    return measured
