"""How variables are read, and what of them is checked in more than one place."""

from environs import Env, EnvError
from marshmallow import ValidationError

env = Env()


def positive(value: float) -> None:
    """As `validate`: more than 0."""
    if value <= 0:
        raise ValidationError("must be greater than 0")


def addresses(name: str, value: list[str]) -> list[tuple[str, int]]:
    """The `host:port` pairs in the variable `name`."""
    pairs = []
    for item in value:
        host, _, port = item.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise EnvError(f'Environment variable "{name}" invalid: expected host:port, got {item!r}')
        pairs.append((host, int(port)))
    return pairs
