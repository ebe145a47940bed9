"""How much of the failure tests is to be played, from the environment."""

import os
from random import SystemRandom
from typing import Final

EVERYTHING: Final = os.environ.get("FAILURE") == "all"
"""FAILURE=all: every scenario on every database, at full length, the control and the planted faults."""

PLANTED: Final = os.environ.get("FAILURE") == "planted"
"""FAILURE=planted: the planted faults."""

SEED: Final = int(os.environ.get("SEED", "0")) or SystemRandom().randrange(1, 10**9)
"""Of the first round; each further one has the next."""

ROUNDS: Final = int(os.environ.get("ROUNDS", "1"))
