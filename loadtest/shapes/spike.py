"""A crowd that comes all at once, stays a while, and goes."""

import time
from typing import Any

from locust import LoadTestShape


class Spike(LoadTestShape):  # type: ignore[misc]  # untyped library
    """A quarter of `--users`; all of them for the middle third of `--steady`; a quarter again."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        options: Any = self.runner.environment.parsed_options
        conductor = self.runner.environment.conductor
        few = max(1, options.num_users // 4)
        if not conductor.begun_at:
            return few, options.spawn_rate
        third = (time.monotonic() - conductor.begun_at) * 3 // options.steady
        if third >= 3:
            return None
        return (options.num_users if third == 1 else few), float(options.num_users)
