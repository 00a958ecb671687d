"""Entries of a container's ``env``. (pure)"""

from typing import Any


def literal(name: str, value: str) -> dict[str, Any]:
    """Return a variable with exactly this *value*: Kubernetes would put another's for ``$(X)``."""
    return {"name": name, "value": value.replace("$", "$$")}


def from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    """Return a variable with what *key* of *secret* holds."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def from_field(name: str, path: str) -> dict[str, Any]:
    """Return a variable with a field of the pod itself."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
