"""The example of docs/journal.md works as it stands there."""

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.db import connection
from django.urls import path

from app.database.thread import in_database_thread
from app.journal.journal import journal_of
from app.realtime.node import current_node
from tests.unit.chat.client import ADA, EVE, client
from tests.unit.chat.conftest import node

__all__ = ["node"]

PAGE = Path(__file__).parents[3] / "docs" / "journal.md"


@cache  # a model and its kinds are made once in a process
def orders() -> ModuleType:
    """The module that the page's blocks are."""
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    spec = importlib.util.spec_from_loader("orders", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(code, str(PAGE), "exec"), vars(module))
    return module


@pytest.fixture
def shop(transactional_db: None, node: None) -> Iterator[Any]:
    """The example, with the order 4711 of Ada's."""
    page = orders()
    with connection.schema_editor() as editor:
        editor.create_model(page.Order)
    page.take_order("4711", ADA.id)
    yield page
    with connection.schema_editor() as editor:
        editor.delete_model(page.Order)


async def test_who_may_watch_gets_what_is_published_and_nobody_else_does(shop: Any) -> None:
    journal_of(current_node())
    doors = [path("orders/", shop.OrdersConsumer.as_asgi())]
    async with client(ADA, "/orders/", doors) as ada, client(EVE, "/orders/", doors) as eve:
        for number in ("4711", "4712"):
            assert (await eve.command("orders.watch", order=number))["code"] == "not_found"
        begin = (await ada.command("orders.watch", order="4711"))["position"]
        assert (await eve.command("orders.note", order="4711", text="mine"))["code"] == "not_allowed"
        noted = await ada.command("orders.note", order="4711", text="ring twice")
        assert noted["sequence"] == begin["sequence"] + 1
        assert await ada.event("orders.noted") == {"text": "ring twice"}
        await in_database_thread(lambda: shop.ship("4711", "post"))
        assert await ada.event("orders.shipped") == {"order": "4711", "carrier": "post"}
        assert await in_database_thread(lambda: shop.Order.objects.get().carrier) == "post"
        await ada.command("orders.watch", order="4711", position=begin)  # what was missed comes again
        assert await ada.event("orders.noted") == {"text": "ring twice"}
        await eve.command("ping")
        assert not eve.names("orders.")
