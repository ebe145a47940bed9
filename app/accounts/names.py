"""The names people go by: what a name may hold, and when two names are the same to a reader.

Knows no model and no request.
"""

import unicodedata
from typing import Final

from django.core.exceptions import ValidationError

NAME_LIMIT: Final = 40
"""Characters of a name after normalisation: what a line of chat can spare for its sender."""

NAME_TAKEN: Final = "An account has this name, or one that reads like it. Please choose another."

# Letters and marks that show nothing although Unicode does not call them format characters: joiners, fillers
# of Hangul, Khmer and Mongolian, the empty Braille cell, and the two ranges of variation selectors.
_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)


def normalise(name: str) -> str:
    """`name` in NFKC, without outer spaces and with single inner ones. Accepts anything."""
    return " ".join(part for part in unicodedata.normalize("NFKC", name).split(" ") if part)


def name_key(name: str) -> str:
    """What two names that read alike share: Unicode's caseless match for identifiers."""
    folded = unicodedata.normalize("NFD", normalise(name)).casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())


def clean_name(name: str) -> str:
    """The normalised name. Raises `ValidationError` that says what is wrong with it."""
    name = normalise(name)
    if not 1 <= len(name) <= NAME_LIMIT:
        raise ValidationError(f"A name has 1 to {NAME_LIMIT} characters; this one has {len(name)}.")
    for character in name:
        if _invisible(character):
            raise ValidationError(
                f"A name holds visible characters only; this one has U+{ord(character):04X}."
            )
    return name


def validate_name(name: str) -> None:
    """`clean_name` as a validator of a model field."""
    clean_name(name)


def _invisible(character: str) -> bool:
    """Control, format, unassigned and private (C*), separators but the space (Z*), and the like."""
    return character != " " and (unicodedata.category(character)[0] in "CZ" or character in _INVISIBLE)
