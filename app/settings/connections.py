"""What one connection, one person and one node may ask for, and how a node leaves."""

from environs import validate

from app.settings.checks import env, positive

FRAME_LIMIT_BYTES = env.int("FRAME_LIMIT_BYTES", 64 * 2**10, validate=positive)
UNSENT_LIMIT_BYTES = env.int("UNSENT_LIMIT_BYTES", 2**20, validate=positive)
SEND_BUFFER_BYTES = env.int("SEND_BUFFER_BYTES", 128 * 2**10, validate=positive)
COMMANDS_PER_SECOND = env.float("COMMANDS_PER_SECOND", 20.0, validate=positive)
COMMANDS_BURST = env.int("COMMANDS_BURST", 40, validate=positive)
COMMANDS_PER_PERSON = env.float("COMMANDS_PER_PERSON", 5 * COMMANDS_PER_SECOND, validate=positive)
ROOMS_PER_CONNECTION = env.int("ROOMS_PER_CONNECTION", 128, validate=positive)
PING_SECONDS = env.float("PING_SECONDS", 25.0, validate=positive)
CONNECTION_AGE_SECONDS = env.float("CONNECTION_AGE_SECONDS", 0.0, validate=validate.Range(min=0))
REQUEST_SECONDS = env.float("REQUEST_SECONDS", 10.0, validate=positive)
CONNECTIONS_LIMIT = env.int("CONNECTIONS_LIMIT", 50_000, validate=positive)
CONNECTIONS_PER_PERSON = env.int("CONNECTIONS_PER_PERSON", 100, validate=positive)
DESCRIPTORS_RESERVED = env.int("DESCRIPTORS_RESERVED", 256, validate=positive)
REFUSE_LAG_SECONDS = env.float("REFUSE_LAG_SECONDS", 1.0, validate=positive)
ACCEPT_PER_SECOND = env.float("ACCEPT_PER_SECOND", 500.0, validate=positive)
DRAIN_NOTICE_SECONDS = env.float("DRAIN_NOTICE_SECONDS", 0.0, validate=validate.Range(min=0))
DRAIN_SECONDS = env.float("DRAIN_SECONDS", 30.0, validate=positive)
SHUTDOWN_SECONDS = env.float("SHUTDOWN_SECONDS", 5.0, validate=positive)
