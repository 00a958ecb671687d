"""Where ``serve`` listens: may it, can it, and how this machine reaches it."""

import ipaddress
import os
import socket

from script_runner.cli.failures import Failure


def is_loopback(host: str) -> bool:
    """Tell if *host* can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)


def default_auth(host: str) -> str:
    if is_loopback(host):
        return "none"
    raise Failure(
        f"{host} can be reached from other machines, so say who may call:\n"
        "  --auth-provider apikey   callers need a key: `script-runner apikey create`, and\n"
        "                           AUTH_APIKEYS_FILE\n"
        "  --auth-provider none     everybody who can reach it"
    )


def claim_port(host: str, port: int) -> int:
    """Return a port that can be listened on; Failure that says which option helps."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        # As the API will do it: it may take a port whose last connections still linger.
        with socket.create_server(address[:2], family=family) as listener:
            taken: int = listener.getsockname()[1]
            return taken
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        advice = "choose another port with --port, for example --port 8001"
        if isinstance(error, socket.gaierror) or "assign" in reason:
            advice = "choose an address of this machine with --host"
        elif isinstance(error, PermissionError):
            advice = "choose a port from 1024 on with --port"
        raise Failure(f"cannot listen on {host} port {port}: {reason}; {advice}") from error


def local_url(host: str, port: int) -> str:
    """Return the URL under which this machine reaches what listens on *host*."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
