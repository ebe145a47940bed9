"""Who may come in, and by which door."""

import re
from ipaddress import IPv4Network, ip_network

from environs import EnvError, validate

from app.settings.checks import env
from app.settings.node import PRODUCTION


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
