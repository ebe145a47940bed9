"""PostgreSQL behind PgBouncer, Valkey with Sentinels: outside of the release, for `profile: production`."""

import secrets
from pathlib import Path
from typing import Any, Final

from tests.cluster.cluster import Namespace
from tests.cluster.release import READY_SECONDS, Image, Values

MANIFESTS: Final = Path(__file__).parents[2] / "deploy" / "stores"
SECRET: Final = "carillon-secrets"
LABELS: Final = {"app": "pgbouncer"}


class Stores:
    """What runs in a namespace of its own, and the passwords to it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        names = ("POSTGRESQL_PASSWORD", "REDIS_PASSWORD", "REDIS_SENTINEL_PASSWORD")
        self._passwords = {name: secrets.token_hex(24) for name in names}

    def start(self, pgbouncer: Image) -> None:
        """As deploy/stores says, and PgBouncer beside it."""
        self.namespace.secret(SECRET, **self._passwords)
        self.namespace.kubectl("apply", "--kustomize", str(MANIFESTS))
        self.namespace.apply(*_pgbouncer(pgbouncer))
        sets = (f"statefulset/{name}" for name in ("postgresql", "valkey", "sentinel"))
        self.namespace.wait_for_rollout("deployment/pgbouncer", *sets, seconds=READY_SECONDS)

    def secret(self, signing_keys: str) -> dict[str, str]:
        """What the release's namespace has to know."""
        password = self._passwords["POSTGRESQL_PASSWORD"]
        database = f"postgres://carillon:{password}@pgbouncer.{self.namespace.name}.svc:6432/carillon"
        return {**self._passwords, "SECRET_KEYS": signing_keys, "DATABASE_URL": database}

    def values(self) -> Values:
        """The chart's values that lead here."""
        hosts = (f"sentinel-{number}.sentinel.{self.namespace.name}.svc" for number in range(3))
        return {
            "profile": "production",
            "secrets": {"existingSecret": SECRET},
            "database": {"existingSecret": SECRET},
            "redis": {
                "sentinels": [f"{host}:26379" for host in hosts],
                "existingSecret": SECRET,
                "sentinelPasswordKey": "REDIS_SENTINEL_PASSWORD",
            },
        }


def _pgbouncer(image: Image) -> list[dict[str, Any]]:
    password = {"secretKeyRef": {"name": SECRET, "key": "POSTGRESQL_PASSWORD"}}
    container = {
        "name": "pgbouncer",
        "image": image.reference,
        "imagePullPolicy": "Always",
        "env": [
            {"name": "POSTGRESQL_HOST", "value": "postgresql"},
            {"name": "POSTGRESQL_PASSWORD", "valueFrom": password},
        ],
        "readinessProbe": {"tcpSocket": {"port": 6432}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    template = {
        "metadata": {"labels": LABELS},
        "spec": {"securityContext": security, "containers": [container]},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "pgbouncer"},
            "spec": {"selector": {"matchLabels": LABELS}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "pgbouncer"},
            "spec": {"selector": LABELS, "ports": [{"port": 6432}]},
        },
    ]
