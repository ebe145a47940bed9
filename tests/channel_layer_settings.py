"""CHANNEL_LAYERS as the settings make them, whatever this process was started with."""

import json
import os
import subprocess
import sys
from typing import Any

from deploy.local.redis_servers import RedisServers


def environment_for(kind: str, servers: RedisServers | None) -> dict[str, str]:
    """The environment of a process whose default layer is `kind`."""
    environment = os.environ | {"CHANNEL_LAYER": kind, "DJANGO_SETTINGS_MODULE": "app.settings"}
    if servers is not None:
        environment["REDIS_SENTINELS"] = ",".join(
            f"{host}:{port}" for host, port in servers.sentinel_addresses
        )
    return environment


def channel_layers_for(kind: str, servers: RedisServers | None, **environment: str) -> dict[str, Any]:
    """CHANNEL_LAYERS with CHANNEL_LAYER set to `kind`, and what else `environment` says."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json; from app import settings; print(json.dumps(settings.CHANNEL_LAYERS))",
        ],
        env=environment_for(kind, servers) | environment,
        check=True,
        capture_output=True,
    )
    layers: dict[str, Any] = json.loads(done.stdout)
    return layers
