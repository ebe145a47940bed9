import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.models import User
from app.accounts.names import NAME_LIMIT, clean_name, name_key


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("ada", "ada"),
        ("  Ada  Lovelace ", "Ada Lovelace"),
        ("\uff21\uff44\uff41", "Ada"),
        ("ﬁnn", "finn"),
        ("明日香", "明日香"),
    ],
)
def test_a_name_is_kept_as_people_write_it(written: str, kept: str) -> None:
    assert clean_name(written) == kept


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "a" * (NAME_LIMIT + 1),
        "ﬃ" * 14,
        "a\nb",
        "a\tb",
        "a\x00b",
        "a\u200bb",
        "\u202eada",
        "a\u00adb",
        "ad\ufe0fa",
        "\u3164",
        "\u2800",
        "a\u2028b",
        "a\ue000b",
        "a\U000e0100b",
        "\ud800",
    ],
)
def test_a_name_that_cannot_be_seen_or_is_too_long_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        clean_name(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ada", "aDA"), ("Straße", "STRASSE"), ("\uff41da", "ada"), ("É", "e\u0301"), ("ΣΊΣΥΦΟΣ", "σίσυφος")],
)
def test_names_that_read_alike_share_a_key(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


def test_names_that_differ_do_not_share_a_key() -> None:
    assert len({name_key(name) for name in ("ada", "ida", "ada l", "adal")}) == 4


@given(st.text(max_size=60))
def test_a_clean_name_stays_as_it_is_and_its_key_fits_the_column(text: str) -> None:
    try:
        name = clean_name(text)
    except ValidationError:
        return
    assert clean_name(name) == name
    assert name_key(name_key(name)) == name_key(name)
    assert len(name_key(name)) <= (User._meta.get_field("name_key").max_length or 0)
