import runpy
import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_command_that_is_told_to_stop_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(_: list[str]) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("django.core.management.execute_from_command_line", execute)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("app.manage", run_name="__main__")
    assert ended.value.code == 130
