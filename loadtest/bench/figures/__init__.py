"""One module for each figure. Each has `measure(stage, sizes)` and tells rows of the table."""

from dataclasses import dataclass
from typing import Final

VERIFIED_SECONDS: Final = 1.0
"""So long after a connect nothing of it is left to do: who came by ticket has been verified by then."""


@dataclass(frozen=True)
class Sizes:
    """How much a run measures. The defaults are what the bars are about."""

    connections: int = 1_000
    idle: int = 10_000
    rounds: int = 7
    seconds: float = 5.0
    """Of one run of durable posts."""

    def description(self) -> str:
        """For the report."""
        text = f"connections {self.connections:,}, idle {self.idle:,}, rounds {self.rounds}"
        return text if self == Sizes() else f"{text}: not the sizes that the bars are about"
