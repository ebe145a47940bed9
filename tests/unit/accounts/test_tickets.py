import re
import time
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from app.accounts import tickets
from app.accounts.tickets import Claim, TicketRefused
from app.realtime.identity import Identity

ADA = Claim(Identity("u12", "Ada Lovelace"), "0123456789abcdef", "k" * 32)
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""What a subprotocol may be made of (RFC 7230)."""

texts_without_surrogates = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def refusal(ticket: str) -> str:
    with pytest.raises(TicketRefused) as refused:
        tickets.verify(ticket)
    return refused.value.reason


@given(
    st.from_regex(r"[ug][0-9a-f]{1,16}", fullmatch=True),
    texts_without_surrogates,
    st.booleans(),
    st.text("0123456789abcdef", max_size=16),
    st.text("0123456789abcdefghijklmnopqrstuvwxyz", max_size=40),
)
def test_a_ticket_carries_its_claim_and_fits_a_subprotocol(
    identity_id: str, name: str, guest: bool, auth_hash: str, session: str
) -> None:
    claim = Claim(Identity(identity_id, name, guest), auth_hash, session)
    ticket = tickets.issue(claim)
    assert TOKEN.fullmatch(ticket)
    assert tickets.verify(ticket) == claim


@given(st.data())
def test_no_ticket_that_was_touched_is_accepted(data: st.DataObject) -> None:
    ticket = tickets.issue(ADA)
    start = data.draw(st.integers(0, len(ticket)))
    end = data.draw(st.integers(start, len(ticket)))
    touched = ticket[:start] + data.draw(st.text(max_size=8)) + ticket[end:]
    if touched != ticket:
        assert refusal(touched) == "ticket_invalid"


@given(st.text())
def test_nothing_that_we_did_not_sign_is_accepted(text: str) -> None:
    assert refusal(text) == "ticket_invalid"


def test_nobody_reads_the_key_of_the_session_in_a_ticket() -> None:
    sent = [tickets.issue(ADA).partition(".")[0] for _ in range(2)]
    sealed = [msgspec.msgpack.decode(bytes.fromhex(one))[-1] for one in sent]
    assert all(ADA.session.encode() not in bytes.fromhex(one) for one in sent)
    assert len(sealed[0]) == len(sealed[1]) > len(ADA.session)
    assert sealed[0][-32:] != sealed[1][-32:], "the same mask was used twice"


def test_a_ticket_of_the_release_before_says_nothing_of_a_session() -> None:
    body = (time.time(), ADA.identity.id, ADA.identity.name, False, ADA.auth_hash)
    value = msgspec.msgpack.encode(body).hex().encode()
    ticket = (value + b"." + tickets._sign(value, tickets._keys()[0].signing)).decode()
    assert tickets.verify(ticket) == Claim(ADA.identity, ADA.auth_hash)


def test_a_ticket_expires(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    ticket = tickets.issue(ADA)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + settings.TICKET_SECONDS - 1)
    assert tickets.verify(ticket) == ADA
    monkeypatch.setattr(time, "time", lambda: now + settings.TICKET_SECONDS + 1)
    assert refusal(ticket) == "ticket_expired"


def test_a_ticket_outlives_the_change_of_keys_but_not_the_loss_of_its_own(settings: Settings) -> None:
    ticket = tickets.issue(ADA)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the next key, long enough to be one"
    assert tickets.verify(ticket) == ADA
    assert tickets.verify(tickets.issue(ADA)) == ADA
    settings.SECRET_KEY_FALLBACKS = []
    assert refusal(ticket) == "ticket_invalid"


@pytest.mark.parametrize("change", [str.upper, lambda ticket: ticket + "=", lambda ticket: ""])
def test_a_refusal_does_not_repeat_the_ticket(change: Callable[[str], str]) -> None:
    touched = change(tickets.issue(ADA))
    with pytest.raises(TicketRefused) as refused:
        tickets.verify(touched)
    assert str(refused.value) == "ticket_invalid"
    assert refused.value.__cause__ is None and refused.value.__context__ is None
