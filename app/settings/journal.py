"""The journal: how its statements are sent, what may wait, what is kept."""

from environs import validate

from app.settings.checks import env, positive

DATABASE_PREPARED_STATEMENTS = env.bool("DATABASE_PREPARED_STATEMENTS", True)
JOURNAL_QUEUE_ENTRIES = env.int("JOURNAL_QUEUE_ENTRIES", 10_000, validate=positive)
JOURNAL_QUEUE_BYTES = env.int("JOURNAL_QUEUE_BYTES", 16 * 2**20, validate=positive)
JOURNAL_QUEUE_SECONDS = env.float("JOURNAL_QUEUE_SECONDS", 5.0, validate=positive)
JOURNAL_BATCH_ENTRIES = env.int("JOURNAL_BATCH_ENTRIES", 500, validate=positive)
JOURNAL_STORE_SECONDS = env.float("JOURNAL_STORE_SECONDS", 10.0, validate=positive)
JOURNAL_KEEP_HOURS = env.float("JOURNAL_KEEP_HOURS", 168.0, validate=validate.Range(min=25))
