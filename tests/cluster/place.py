"""Where a run works, from its environment: cluster, image, addresses. Never guesses a cluster."""

import os
from dataclasses import dataclass
from ssl import CERT_NONE, create_default_context
from typing import Final, Self
from urllib.parse import urlsplit

from tests.visitor import Door

USAGE: Final = "make test-cluster KUBE_CONTEXT=the-context REGISTRY=localhost:5000"


class NoPlace(Exception):
    """What the run was not told; one line."""


@dataclass(frozen=True)
class Place:
    """The run's options."""

    context: str
    """The context of the kubeconfig; the current one is never taken."""
    image: str
    """`repository[:tag]` that the cluster can pull already; empty: built, and pushed to `registry`."""
    registry: str
    http: str
    https: str
    """Where the ingress answers, by whatever name it is asked for."""
    gateway: str
    """`namespace/name` of a Gateway that takes routes from all namespaces."""

    @classmethod
    def from_environment(cls) -> Self:
        place = cls(
            context=os.environ.get("KUBE_CONTEXT", ""),
            image=os.environ.get("IMAGE", ""),
            registry=os.environ.get("REGISTRY", ""),
            http=os.environ.get("INGRESS", "http://127.0.0.1:8080"),
            https=os.environ.get("INGRESS_TLS", "https://127.0.0.1:8443"),
            gateway=os.environ.get("GATEWAY", "kube-system/traefik"),
        )
        if not place.context:
            raise NoPlace(f"KUBE_CONTEXT is not set, and no cluster is taken by accident; such as: {USAGE}")
        if not place.image and not place.registry:
            raise NoPlace(
                "neither IMAGE=repository:tag (one that the cluster can pull) nor REGISTRY (to push one) "
                f"is set; such as: {USAGE}"
            )
        return place

    @property
    def parent_ref(self) -> dict[str, str]:
        namespace, _, name = self.gateway.partition("/")
        return {"namespace": namespace, "name": name}

    def host(self, name: str, *, tls: bool = False) -> str:
        """The chart's `host` for a deployment that people know as `name`."""
        return f"{name}:{urlsplit(self.https if tls else self.http).port}"

    def address(self, *, tls: bool = False) -> tuple[str, int]:
        parts = urlsplit(self.https if tls else self.http)
        return parts.hostname or "", parts.port or 80

    def door(self, host: str, *, tls: bool = False) -> Door:
        """The ingress' door to `host`; whose certificate it shows is not looked at."""
        context = None
        if tls:
            context = create_default_context()
            context.check_hostname, context.verify_mode = False, CERT_NONE
        return Door(f"{'https' if tls else 'http'}://{host}", self.address(tls=tls), context)
