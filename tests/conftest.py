"""How tests are shared out when several processes run them (`make test`), and what holds for all of them."""

import pytest
from hypothesis import settings

# No test asserts a time: not how long one example takes, either.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that share servers of their module stay in one process, which alone starts these servers."""
    for item in items:
        if isinstance(item, pytest.Function) and _shares_servers(item):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))


def _shares_servers(item: pytest.Function) -> bool:
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    return any(defined[-1].scope == "module" for defined in fixtures if defined)
