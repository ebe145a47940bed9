"""What a node tells of itself."""

from importlib.util import find_spec

from environs import EnvError, validate

from app.settings.checks import env
from app.settings.node import NODE_NAME

LOG_LEVEL = env.str("LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]))
LOG_FORMAT = env.str("LOG_FORMAT", "text", validate=validate.OneOf(["text", "json"]))
TRACES_RATIO = env.float("TRACES_RATIO", 0.0, validate=validate.Range(0, 1))
if TRACES_RATIO and find_spec("opentelemetry") is None:
    raise EnvError(
        'Environment variable "TRACES_RATIO" invalid: above 0 it needs requirements/traces.txt installed'
    )

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"format": "%(levelname)s %(name)s: %(message)s"},
        "json": {"()": "app.observability.logs.JsonFormatter", "node": NODE_NAME},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # An outage of the database is told when it begins and when it ends, and not for each request.
    "filters": {
        "not_of_an_outage": {
            "()": "django.utils.log.CallbackFilter",
            "callback": "ext://app.database.outage.is_news",
        },
        "not_503": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: getattr(record, "status_code", 0) != 503,
        },
    },
    "loggers": {
        "psycopg.pool": {"filters": ["not_of_an_outage"]},
        "django.request": {"filters": ["not_503"]},
        "opentelemetry.exporter": {"level": "ERROR"},  # once for each batch that is lost, not for each try
        # For LOG_FORMAT=json, where gunicorn takes this configuration for its own.
        "gunicorn.error": {"propagate": True},
    },
}
