"""The bus between nodes: Redis, and the Sentinels that say where it is."""

from typing import Any

from app.settings.checks import addresses, env, positive

REDIS_SENTINELS = addresses("REDIS_SENTINELS", env.list("REDIS_SENTINELS", []))
REDIS_PRIMARY_NAME = env.str("REDIS_PRIMARY_NAME", "carillon")
REDIS_ADDRESS = env.str("REDIS_ADDRESS", "")
addresses("REDIS_ADDRESS", [REDIS_ADDRESS] if REDIS_ADDRESS else [])
REDIS_USERNAME = env.str("REDIS_USERNAME", "")
REDIS_PASSWORD = env.str("REDIS_PASSWORD", "")
REDIS_SENTINEL_USERNAME = env.str("REDIS_SENTINEL_USERNAME", "")
REDIS_SENTINEL_PASSWORD = env.str("REDIS_SENTINEL_PASSWORD", "")
REDIS_TLS = env.bool("REDIS_TLS", False)
REDIS_TLS_CA_FILE = env.str("REDIS_TLS_CA_FILE", "")
REDIS_PREFIX = env.str("REDIS_PREFIX", "carillon:")
REDIS_CONNECT_SECONDS = env.float("REDIS_CONNECT_SECONDS", 1.0, validate=positive)
REDIS_PING_SECONDS = env.float("REDIS_PING_SECONDS", 1.0, validate=positive)
PUBLISH_QUEUE_BYTES = env.int("PUBLISH_QUEUE_BYTES", 8 * 2**20, validate=positive)
PUBLISH_QUEUE_SECONDS = env.float("PUBLISH_QUEUE_SECONDS", 5.0, validate=positive)

REALTIME_BROKER = (
    "app.realtime.redis_broker.RedisBroker"
    if REDIS_SENTINELS or REDIS_ADDRESS
    else "app.realtime.memory_broker.MemoryBroker"
)


def redis_host(max_connections: int) -> dict[str, Any]:
    """What redis-py needs to reach the primary, as channels-redis takes it; all of it explicit.

    redis-py's own defaults break channels-redis: 5 s of socket timeout end its blocking pop of 5 s, the
    101st connection is refused, and connections to Sentinel inherit neither password nor timeout.
    """
    connection: dict[str, Any] = {"socket_connect_timeout": REDIS_CONNECT_SECONDS}
    if REDIS_TLS:
        connection |= {"ssl": True, "ssl_ca_certs": REDIS_TLS_CA_FILE or None}
    data = connection | {
        "username": REDIS_USERNAME or None,
        "password": REDIS_PASSWORD or None,
        "socket_timeout": 8.0,
        "max_connections": max_connections,
    }
    if not REDIS_SENTINELS:
        scheme = "rediss" if data.pop("ssl", False) else "redis"
        return data | {"address": f"{scheme}://{REDIS_ADDRESS}"}
    sentinel = connection | {
        "username": REDIS_SENTINEL_USERNAME or None,
        "password": REDIS_SENTINEL_PASSWORD or None,
        "socket_timeout": REDIS_CONNECT_SECONDS,
        "max_connections": max_connections,
    }
    return data | {
        "master_name": REDIS_PRIMARY_NAME,
        "sentinels": REDIS_SENTINELS,
        "sentinel_kwargs": sentinel,
    }
