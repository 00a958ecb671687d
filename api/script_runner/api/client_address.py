"""The address a request comes from, also when it came through proxies (pure)."""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

from script_runner.core.errors import ConfigError, Problem

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> list[Network]:
    """Read TRUSTED_PROXIES; ConfigError when an entry is neither address nor network."""
    try:
        return [ipaddress.ip_network(item.strip()) for item in text.split(",") if item.strip()]
    except ValueError:
        message = "must be addresses or networks such as 10.0.0.7,10.1.0.0/16"
        raise ConfigError([Problem("TRUSTED_PROXIES", message)]) from None


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the last address that no trusted proxy has; "" when there is none.

    Anybody can write X-Forwarded-For: only what a trusted proxy appended counts.
    """
    client = scope.get("client")
    found = client[0] if client else ""
    if not trusted or not _is_trusted(_address(found), trusted):
        return found
    hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
    for hop in reversed(hops):
        address = _address(hop.strip())
        if address is None:
            break
        found = str(address)
        if not _is_trusted(address, trusted):
            break
    return found


def _is_trusted(address: Address | None, trusted: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in trusted)


def _address(text: str) -> Address | None:
    """Read an address, perhaps with a port behind it."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
