"""/docs: one page without anything from elsewhere, for laboratories without internet."""

import secrets
from importlib.resources import files

from starlette.responses import Response

from script_runner.api.service import Call

_MARK = "@NONCE@"


async def docs(call: Call) -> Response:
    """Send the page; it reads openapi.json beside it and builds its form from that."""
    nonce = secrets.token_urlsafe(16)
    text = files("script_runner.api").joinpath("docs.html").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": policy,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
    }
    return Response(text.replace(_MARK, nonce), 200, headers)
