import pytest

from app.accounts.refusals import RETRY_SECONDS, retry_after


@pytest.mark.parametrize("wait", [0.0, 7.2])
def test_who_is_refused_together_does_not_come_back_together_nor_too_early(wait: float) -> None:
    drawn = {retry_after(wait) for _ in range(200)}
    assert len(drawn) > 5
    assert min(drawn) >= wait + RETRY_SECONDS[0]
    assert max(drawn) <= wait + 1 + RETRY_SECONDS[1]
