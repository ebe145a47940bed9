from app.realtime import close_codes
from app.realtime.close_codes import ABNORMAL, DRAIN, REASONS, label

CODES = {
    name: value for name, value in vars(close_codes).items() if name.isupper() and isinstance(value, int)
}


def test_every_code_that_a_node_sends_has_a_reason() -> None:
    assert set(CODES.values()) - set(REASONS) == {ABNORMAL}, "1006 is never sent, it stands for silence"


def test_no_code_is_given_twice() -> None:
    assert len(set(CODES.values())) == len(CODES)


def test_our_own_codes_are_in_the_ranges_by_which_clients_decide() -> None:
    ours = [code for code in CODES.values() if code >= 3000]
    assert ours
    assert all(4000 <= code <= 4999 for code in ours)


def test_who_can_mend_it_by_coming_back_is_told_to() -> None:
    assert {
        close_codes.SLOW_CONSUMER,
        close_codes.PONG_TIMEOUT,
        close_codes.CONSUMER_FAILED,
        close_codes.FLOODED,
    } <= set(range(4000, 4500))
    assert {
        close_codes.UNAUTHENTICATED,
        close_codes.TOO_MANY_INVALID_FRAMES,
        close_codes.IDENTITY_REVOKED,
    } <= set(range(4500, 5000))
    assert DRAIN == 1012


def test_a_reason_fits_into_a_close_frame() -> None:
    assert all(len(reason.encode()) <= 123 for reason in REASONS.values())


def test_labels_stay_few_whatever_clients_send() -> None:
    labels = {label(code) for code in range(65536)}
    assert labels == {str(code) for code in REASONS} | {"1000", "1005", "1006", "other"}
