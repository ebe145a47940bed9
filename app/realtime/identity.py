"""Who a connection belongs to, as the engine needs it: a word, not a lookup. `app.accounts` finds it out."""

from typing import Final

import msgspec

GUEST: Final = "g"
"""How the id of a guest begins. Who lost their session comes back with another."""


class Identity(msgspec.Struct, frozen=True):
    """One person, signed in or a guest.

    `id` is unique over both kinds: `u<primary key>` for an account, `g<random>` for a guest.
    """

    id: str
    name: str
    guest: bool = False
