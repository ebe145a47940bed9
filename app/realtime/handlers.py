"""How a consumer says what its commands do: which method, which data, and when the reply comes.

Words only: it is the consumer that runs them.
"""

from asyncio import Future
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, TypeVar, get_type_hints

import msgspec


class Reply(NamedTuple):
    """A handler's reply, and what to do right behind it: what `then` sends follows the reply, and nothing
    comes between."""

    data: Any
    then: Callable[[], object]


class Later(NamedTuple):
    """The reply comes when `future` is done; commands that arrive meanwhile wait. Costs no task.

    `reply` gets the done future and returns what a handler returns, or raises. It is not called, and the
    future is not cancelled, when the connection is gone by then.
    """

    future: "Future[Any]"
    reply: "Callable[[Future[Any]], Any]"


class Handler(NamedTuple):
    function: Callable[..., Any]
    decoder: "msgspec.json.Decoder[Any]"
    waits: bool


F = TypeVar("F", bound=Callable[..., Any])


def command(name: str) -> Callable[[F], F]:
    """Make a method the handler of a command. Its argument's annotation says what the data must look like.

    What it returns is the reply (anything msgspec encodes; None is `{}`), a `Reply` or a `Later`. Raising
    `CommandError` refuses. A plain `def` runs inside the read; an `async def` gets a task while it runs.
    """

    def mark(function: F) -> F:
        function.command_name = name  # type: ignore[attr-defined]
        return function

    return mark


def handler_of(function: Callable[..., Any]) -> Handler:
    hints = get_type_hints(function)
    hints.pop("return", None)
    if len(hints) != 1:
        raise TypeError(f"{function.__qualname__}: expected one annotated argument, the command's data")
    return Handler(function, msgspec.json.Decoder(*hints.values()), iscoroutinefunction(function))
