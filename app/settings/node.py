"""Who and where this node is, and its secrets."""

from pathlib import Path

from environs import EnvError, validate

from app.settings.checks import env

BASE_DIR = Path(__file__).resolve().parents[2]

ENVIRONMENT = env.str("ENVIRONMENT", "development", validate=validate.OneOf(["development", "production"]))
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

# Secrets: no default in production.
_keys = env.list("SECRET_KEYS", [] if PRODUCTION else ["development-only-and-public-" + "x" * 32])
if not _keys or any(len(key) < 32 for key in _keys):
    raise EnvError(
        'Environment variable "SECRET_KEYS" invalid: expected one or more keys of 32 characters or more, '
        "separated by commas, the current one first"
    )
SECRET_KEY, *SECRET_KEY_FALLBACKS = _keys
