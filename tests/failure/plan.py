"""How much of the failure tests is to be played, from the environment."""

import os
from random import SystemRandom
from typing import Final

import pytest

EVERYTHING: Final = os.environ.get("FAILURE") == "all"
"""FAILURE=all: every scenario on every database, at full length, the control and the planted faults."""

PLANTED: Final = os.environ.get("FAILURE") == "planted"
"""FAILURE=planted: the planted faults."""

SEED: Final = int(os.environ.get("SEED", "0")) or SystemRandom().randrange(1, 10**9)
"""Of the first round; each further one has the next."""

WORKERS: Final = int(os.environ.get("WORKERS", "3"))
"""How many tests of the whole run are played side by side: mostly they wait."""

ROUNDS: Final = int(os.environ.get("ROUNDS", "1"))

at_length: Final = pytest.mark.at_length
"""On tests that `make test-failure` leaves out."""
