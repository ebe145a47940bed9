"""All configuration, read from the environment and checked at start (docs/settings.md has every variable).

Nothing else reads the environment; everything else reads `django.conf.settings`. In production no secret
has a default, and a wrong value ends the start with one line that names the variable.
"""

import re
import sys
from importlib.util import find_spec
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF
from environs import Env, EnvError, validate
from marshmallow import ValidationError
from psycopg.pq import Conninfo

env = Env()


def _positive(value: float) -> None:
    if value <= 0:
        raise ValidationError("must be greater than 0")


def _addresses(name: str, value: list[str]) -> list[tuple[str, int]]:
    """The `host:port` pairs in the variable `name`."""
    pairs = []
    for item in value:
        host, _, port = item.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise EnvError(f'Environment variable "{name}" invalid: expected host:port, got {item!r}')
        pairs.append((host, int(port)))
    return pairs


def _database(url: str) -> dj_database_url.DBConfig:
    """What Django needs to know. The URL holds a password: no error may repeat it."""
    try:
        # Under ASGI each request has a thread of its own: a connection that it kept is never used again.
        database = dj_database_url.parse(url)
    except ValueError:
        raise EnvError(
            'Environment variable "DATABASE_URL" invalid: expected a URL such as postgres://user:password@host/name'
        ) from None
    complete = {
        "django.db.backends.sqlite3": _sqlite,
        "django.db.backends.postgresql": _postgres,
    }
    if database["ENGINE"] not in complete:
        scheme = url.partition(":")[0]
        raise EnvError(
            f'Environment variable "DATABASE_URL" invalid: expected sqlite or postgres, got {scheme}'
        )
    complete[database["ENGINE"]](database)
    return database


def _sqlite(database: dj_database_url.DBConfig) -> None:
    database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # takes the write lock first, so no transaction fails half-way
        "timeout": 2,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }


def _postgres(database: dj_database_url.DBConfig) -> None:
    """Nothing that lasts longer than a transaction is asked of a connection: PgBouncer may stand between."""
    database["ENGINE"] = "app.database.postgresql"
    if not database["NAME"]:
        raise EnvError(
            'Environment variable "DATABASE_URL" invalid: expected the name of a database, after the host'
        )
    # What the URL says after its `?` wins.
    options: dict[str, Any] = {
        "application_name": f"carillon/{NODE_NAME}",
        "connect_timeout": DATABASE_CONNECT_SECONDS,
        # A database whose machine is gone says nothing: asked after 10 s, given up 15 s later.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    } | database.get("OPTIONS", {})
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    if unknown := options.keys() - known:
        raise EnvError(
            'Environment variable "DATABASE_URL" invalid: expected options that libpq knows, '
            f"got {min(unknown)!r}"
        )
    database["OPTIONS"] = options
    database["DISABLE_SERVER_SIDE_CURSORS"] = True
    if DATABASE_POOL_SIZE:
        # What came back from the pool may have died there: asked before each use, which costs one round trip.
        database["CONN_HEALTH_CHECKS"] = True
        options["pool"] = {
            "min_size": 1,
            "max_size": DATABASE_POOL_SIZE,
            "timeout": DATABASE_CONNECT_SECONDS,
            # It tries to reconnect more and more rarely; when it gives up, the next request begins anew.
            "reconnect_timeout": DATABASE_CONNECT_SECONDS,
            "name": "database",
        }


def _origins(value: list[str]) -> list[str]:
    """`scheme://host[:port]`, as a browser writes it: in lower case, without the scheme's own port."""
    origins = []
    for item in value:
        match = re.fullmatch(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", item.lower())
        if match is None:
            raise EnvError(
                f'Environment variable "ALLOWED_ORIGINS" invalid: expected scheme://host[:port], got {item!r}'
            )
        scheme, host, port = match.groups()
        is_default = port in (None, {"http": "80", "https": "443"}[scheme])
        origins.append(f"{scheme}://{host}" if is_default else f"{scheme}://{host}:{port}")
    return origins


def _networks(name: str, value: list[str]) -> list[str]:
    """The addresses and networks in the variable `name`, each as a network.

    IPv4 comes twice: a node that listens on IPv6 sees such a peer as `::ffff:192.0.2.1`.
    """
    networks = []
    for item in value:
        try:
            network = ip_network(item)
        except ValueError:
            raise EnvError(
                f'Environment variable "{name}" invalid: expected addresses or networks such as 10.0.0.0/8, '
                f"got {item!r}"
            ) from None
        networks.append(str(network))
        if isinstance(network, IPv4Network):
            networks.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return networks


BASE_DIR = Path(__file__).resolve().parent.parent

try:
    # --- Who and where ---------------------------------------------------------------------------------
    ENVIRONMENT = env.str(
        "ENVIRONMENT", "development", validate=validate.OneOf(["development", "production"])
    )
    PRODUCTION = ENVIRONMENT == "production"
    NODE_NAME = env.str(
        "NODE_NAME",
        "node-1",
        validate=validate.Regexp(
            r"^[A-Za-z0-9._-]{1,63}\Z", error="expected 1 to 63 letters, digits, dots, dashes and underscores"
        ),
    )
    DATA_FOLDER = env.path("DATA_FOLDER", BASE_DIR / ".data")
    DEBUG = env.bool("DEBUG", False)
    LOG_LEVEL = env.str("LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]))
    LOG_FORMAT = env.str("LOG_FORMAT", "text", validate=validate.OneOf(["text", "json"]))
    TRACES_RATIO = env.float("TRACES_RATIO", 0.0, validate=validate.Range(0, 1))
    if TRACES_RATIO and find_spec("opentelemetry") is None:
        raise EnvError(
            'Environment variable "TRACES_RATIO" invalid: above 0 it needs requirements/traces.txt installed'
        )

    # --- Secrets: no default in production -------------------------------------------------------------
    _keys = env.list("SECRET_KEYS", [] if PRODUCTION else ["development-only-and-public-" + "x" * 32])
    if not _keys or any(len(key) < 32 for key in _keys):
        raise EnvError(
            'Environment variable "SECRET_KEYS" invalid: expected one or more keys of 32 characters or more, '
            "separated by commas, the current one first"
        )
    SECRET_KEY, *SECRET_KEY_FALLBACKS = _keys

    # --- Doors -----------------------------------------------------------------------------------------
    ALLOWED_HOSTS = env.list(
        "ALLOWED_HOSTS", [] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]", "testserver"]
    )
    ALLOWED_ORIGINS = _origins(env.list("ALLOWED_ORIGINS", []))
    if PRODUCTION and not ALLOWED_HOSTS:
        raise EnvError('Environment variable "ALLOWED_HOSTS" not set: expected the host names people use')
    HTTPS = env.bool("HTTPS", PRODUCTION)
    TRUSTED_PROXIES = _networks("TRUSTED_PROXIES", env.list("TRUSTED_PROXIES", []))
    PUBLIC_PORT = env.int("PUBLIC_PORT", 8000, validate=validate.Range(1, 65535))
    PUBLIC_HOST = env.str("PUBLIC_HOST", "127.0.0.1").strip("[]")
    NODE_PORT = env.int("NODE_PORT", 0, validate=validate.Range(0, 65535))
    INTERNAL_HOST = env.str("INTERNAL_HOST", "127.0.0.1").strip("[]")
    INTERNAL_PORT = env.int("INTERNAL_PORT", 0, validate=validate.Range(0, 65535))
    GUESTS_ALLOWED = env.bool("GUESTS_ALLOWED", True)
    SIGN_UP_ALLOWED = env.bool("SIGN_UP_ALLOWED", True)
    MARKERS_ALLOWED = env.bool("MARKERS_ALLOWED", not PRODUCTION)
    TICKET_SECONDS = env.int("TICKET_SECONDS", 30, validate=validate.Range(5, 600))

    # --- The bus ---------------------------------------------------------------------------------------
    REDIS_SENTINELS = _addresses("REDIS_SENTINELS", env.list("REDIS_SENTINELS", []))
    REDIS_PRIMARY_NAME = env.str("REDIS_PRIMARY_NAME", "carillon")
    REDIS_ADDRESS = env.str("REDIS_ADDRESS", "")
    _addresses("REDIS_ADDRESS", [REDIS_ADDRESS] if REDIS_ADDRESS else [])
    REDIS_USERNAME = env.str("REDIS_USERNAME", "")
    REDIS_PASSWORD = env.str("REDIS_PASSWORD", "")
    REDIS_SENTINEL_USERNAME = env.str("REDIS_SENTINEL_USERNAME", "")
    REDIS_SENTINEL_PASSWORD = env.str("REDIS_SENTINEL_PASSWORD", "")
    REDIS_TLS = env.bool("REDIS_TLS", False)
    REDIS_TLS_CA_FILE = env.str("REDIS_TLS_CA_FILE", "")
    REDIS_PREFIX = env.str("REDIS_PREFIX", "carillon:")
    REDIS_CONNECT_SECONDS = env.float("REDIS_CONNECT_SECONDS", 1.0, validate=_positive)
    REDIS_PING_SECONDS = env.float("REDIS_PING_SECONDS", 1.0, validate=_positive)
    PUBLISH_QUEUE_BYTES = env.int("PUBLISH_QUEUE_BYTES", 8 * 2**20, validate=_positive)
    PUBLISH_QUEUE_SECONDS = env.float("PUBLISH_QUEUE_SECONDS", 5.0, validate=_positive)

    # --- Connections -----------------------------------------------------------------------------------
    FRAME_LIMIT_BYTES = env.int("FRAME_LIMIT_BYTES", 64 * 2**10, validate=_positive)
    UNSENT_LIMIT_BYTES = env.int("UNSENT_LIMIT_BYTES", 2**20, validate=_positive)
    SEND_BUFFER_BYTES = env.int("SEND_BUFFER_BYTES", 128 * 2**10, validate=_positive)
    COMMANDS_PER_SECOND = env.float("COMMANDS_PER_SECOND", 20.0, validate=_positive)
    COMMANDS_BURST = env.int("COMMANDS_BURST", 40, validate=_positive)
    COMMANDS_PER_PERSON = env.float("COMMANDS_PER_PERSON", 5 * COMMANDS_PER_SECOND, validate=_positive)
    ROOMS_PER_CONNECTION = env.int("ROOMS_PER_CONNECTION", 128, validate=_positive)
    PING_SECONDS = env.float("PING_SECONDS", 25.0, validate=_positive)
    CONNECTION_AGE_SECONDS = env.float("CONNECTION_AGE_SECONDS", 0.0, validate=validate.Range(min=0))
    REQUEST_SECONDS = env.float("REQUEST_SECONDS", 10.0, validate=_positive)
    CONNECTIONS_LIMIT = env.int("CONNECTIONS_LIMIT", 50_000, validate=_positive)
    CONNECTIONS_PER_PERSON = env.int("CONNECTIONS_PER_PERSON", 100, validate=_positive)
    DESCRIPTORS_RESERVED = env.int("DESCRIPTORS_RESERVED", 256, validate=_positive)
    REFUSE_LAG_SECONDS = env.float("REFUSE_LAG_SECONDS", 1.0, validate=_positive)
    ACCEPT_PER_SECOND = env.float("ACCEPT_PER_SECOND", 200.0, validate=_positive)
    DRAIN_NOTICE_SECONDS = env.float("DRAIN_NOTICE_SECONDS", 0.0, validate=validate.Range(min=0))
    DRAIN_SECONDS = env.float("DRAIN_SECONDS", 30.0, validate=_positive)
    SHUTDOWN_SECONDS = env.float("SHUTDOWN_SECONDS", 5.0, validate=_positive)

    # --- Channels --------------------------------------------------------------------------------------
    CHANNEL_LAYER = env.str(
        "CHANNEL_LAYER",
        "fanout",
        validate=validate.OneOf(["fanout", "memory", "channels_redis", "channels_redis_pubsub"]),
    )
    CHANNEL_CAPACITY = env.int("CHANNEL_CAPACITY", 100, validate=_positive)
    CHANNEL_EXPIRY_SECONDS = env.int("CHANNEL_EXPIRY_SECONDS", 60, validate=_positive)
    TASK_CAPACITY = env.int("TASK_CAPACITY", 10_000, validate=_positive)
    CHANNEL_ENCRYPTION_KEYS: list[str] = env.list("CHANNEL_ENCRYPTION_KEYS", [])
    if any(len(key) < 32 for key in CHANNEL_ENCRYPTION_KEYS):
        raise EnvError(
            'Environment variable "CHANNEL_ENCRYPTION_KEYS" invalid: expected keys of 32 characters or more, '
            "separated by commas, the current one first"
        )
    CHANNEL_MESSAGE_LIMIT_BYTES = env.int(
        "CHANNEL_MESSAGE_LIMIT_BYTES", 2 * 2**20, validate=validate.Range(min=3 * 2**19)
    )

    # --- The database ----------------------------------------------------------------------------------
    DATABASE_URL = env.str("DATABASE_URL", f"sqlite:///{DATA_FOLDER}/carillon.sqlite3")
    DATABASE_POOL_SIZE = env.int("DATABASE_POOL_SIZE", 4, validate=validate.Range(0, 1000))
    DATABASE_CONNECT_SECONDS = env.int("DATABASE_CONNECT_SECONDS", 5, validate=validate.Range(2, 60))
    MIGRATION_LOCK_SECONDS = env.float("MIGRATION_LOCK_SECONDS", 5.0, validate=_positive)
    MIGRATION_TURN_SECONDS = env.float("MIGRATION_TURN_SECONDS", 120.0, validate=_positive)
    DATABASES = {"default": _database(DATABASE_URL)}

    # --- The journal -----------------------------------------------------------------------------------
    DATABASE_PREPARED_STATEMENTS = env.bool("DATABASE_PREPARED_STATEMENTS", True)
    JOURNAL_QUEUE_ENTRIES = env.int("JOURNAL_QUEUE_ENTRIES", 10_000, validate=_positive)
    JOURNAL_QUEUE_BYTES = env.int("JOURNAL_QUEUE_BYTES", 16 * 2**20, validate=_positive)
    JOURNAL_QUEUE_SECONDS = env.float("JOURNAL_QUEUE_SECONDS", 5.0, validate=_positive)
    JOURNAL_BATCH_ENTRIES = env.int("JOURNAL_BATCH_ENTRIES", 500, validate=_positive)
    JOURNAL_STORE_SECONDS = env.float("JOURNAL_STORE_SECONDS", 10.0, validate=_positive)
    JOURNAL_KEEP_HOURS = env.float("JOURNAL_KEEP_HOURS", 168.0, validate=validate.Range(min=25))
except EnvError as error:
    sys.exit(f"carillon: {error}".replace("['", "").replace("']", ""))  # marshmallow says it as a list

REALTIME_BROKER = (
    "app.realtime.redis_broker.RedisBroker"
    if REDIS_SENTINELS or REDIS_ADDRESS
    else "app.realtime.memory_broker.MemoryBroker"
)


def _redis_host(max_connections: int) -> dict[str, Any]:
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
        redis = keys | {"prefix": f"{REDIS_PREFIX}channels:", "hosts": [_redis_host(max_connections=2_000)]}
        tasks = {
            "BACKEND": "app.realtime.task_queue.TaskQueue",
            "CONFIG": waiting
            | keys
            | limit
            | {"prefix": f"{REDIS_PREFIX}tasks:", "hosts": [_redis_host(max_connections=100)]},
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


try:
    CHANNEL_LAYERS = _channel_layers()
except EnvError as error:
    sys.exit(f"carillon: {error}".replace("['", "").replace("']", ""))  # marshmallow says it as a list

# What the workers do by themselves: this task on this channel, once in so many seconds over all of them.
TASK_SCHEDULE = [
    {"channel": "accounts", "type": "purge.expired.sessions", "seconds": 3600.0},
    {"channel": "journal", "type": "purge.old.events", "seconds": 3600.0},
    {"channel": "chat", "type": "purge.guests", "seconds": 3600.0},
]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "channels",
    "app.database",
    "app.serving",
    "app.journal",
    "app.accounts",
    "app.chat",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "app.serving.static_files.StaticFilesMiddleware",
    "csp.middleware.CSPMiddleware",
    "app.database.middleware.DatabaseAwayMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "app.accounts.context_processors.identity",
            ]
        },
    }
]
if DEBUG:
    # Read anew at each use, as static files are: only runserver would notice that a cached one is stale.
    del TEMPLATES[0]["APP_DIRS"]
    TEMPLATES[0]["OPTIONS"]["loaders"] = ["django.template.loaders.app_directories.Loader"]
ROOT_URLCONF = "app.urls"
ASGI_APPLICATION = "app.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "accounts:log_in"
LOGIN_REDIRECT_URL = "chat:index"
LOGOUT_REDIRECT_URL = "chat:index"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "app.serving.static_files.HashedStaticStorage"},
}

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# Browsers complain of this header on pages that came by plain HTTP, and ignore it there.
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin" if HTTPS else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_TRUSTED_ORIGINS = ALLOWED_ORIGINS
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

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
