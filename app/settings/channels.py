"""Channels' own layers, and the tasks behind named channels."""

from typing import Any

from environs import EnvError, validate

from app.settings.bus import REDIS_ADDRESS, REDIS_PREFIX, REDIS_SENTINELS, redis_host
from app.settings.checks import env, positive

CHANNEL_LAYER = env.str(
    "CHANNEL_LAYER",
    "fanout",
    validate=validate.OneOf(["fanout", "memory", "channels_redis", "channels_redis_pubsub"]),
)
CHANNEL_CAPACITY = env.int("CHANNEL_CAPACITY", 100, validate=positive)
CHANNEL_EXPIRY_SECONDS = env.int("CHANNEL_EXPIRY_SECONDS", 60, validate=positive)
TASK_CAPACITY = env.int("TASK_CAPACITY", 10_000, validate=positive)
CHANNEL_ENCRYPTION_KEYS: list[str] = env.list("CHANNEL_ENCRYPTION_KEYS", [])
if any(len(key) < 32 for key in CHANNEL_ENCRYPTION_KEYS):
    raise EnvError(
        'Environment variable "CHANNEL_ENCRYPTION_KEYS" invalid: expected keys of 32 characters or more, '
        "separated by commas, the current one first"
    )
CHANNEL_MESSAGE_LIMIT_BYTES = env.int(
    "CHANNEL_MESSAGE_LIMIT_BYTES", 2 * 2**20, validate=validate.Range(min=3 * 2**19)
)


def _channel_layers() -> dict[str, dict[str, Any]]:
    """`default` is what CHANNEL_LAYER says; `tasks` has the fan-out layer's normal channels."""
    memory = {"capacity": CHANNEL_CAPACITY, "expiry": CHANNEL_EXPIRY_SECONDS}
    keys = {"symmetric_encryption_keys": CHANNEL_ENCRYPTION_KEYS}
    limit = {"message_limit_bytes": CHANNEL_MESSAGE_LIMIT_BYTES}
    waiting = memory | {"capacity": TASK_CAPACITY}
    redis: dict[str, Any] = {}
    tasks: dict[str, Any] = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": waiting}
    if REDIS_SENTINELS or REDIS_ADDRESS:
        # The comparison opens a connection for each simultaneous send; the task queue makes 100 suffice.
        redis = keys | {"prefix": f"{REDIS_PREFIX}channels:", "hosts": [redis_host(max_connections=2_000)]}
        tasks = {
            "BACKEND": "app.realtime.task_queue.TaskQueue",
            "CONFIG": waiting
            | keys
            | limit
            | {"prefix": f"{REDIS_PREFIX}tasks:", "hosts": [redis_host(max_connections=100)]},
        }
    elif CHANNEL_LAYER.startswith("channels_redis"):
        raise EnvError(
            f'Environment variable "CHANNEL_LAYER" invalid: {CHANNEL_LAYER!r} needs REDIS_SENTINELS '
            "or REDIS_ADDRESS"
        )
    kinds = {
        "fanout": ("app.realtime.channel_layer.FanoutChannelLayer", memory | keys | limit),
        "memory": ("channels.layers.InMemoryChannelLayer", memory),
        "channels_redis": ("channels_redis.core.RedisChannelLayer", memory | redis),
        "channels_redis_pubsub": ("channels_redis.pubsub.RedisPubSubChannelLayer", redis),
    }
    backend, config = kinds[CHANNEL_LAYER]
    return {"default": {"BACKEND": backend, "CONFIG": config}, "tasks": tasks}


CHANNEL_LAYERS = _channel_layers()

# What the workers do by themselves: this task on this channel, once in so many seconds over all of them.
TASK_SCHEDULE = [
    {"channel": "accounts", "type": "purge.expired.sessions", "seconds": 3600.0},
    {"channel": "journal", "type": "purge.old.events", "seconds": 3600.0},
    {"channel": "chat", "type": "purge.guests", "seconds": 3600.0},
]
