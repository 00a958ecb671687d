"""The table of routes, and the answer where it has none."""

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from script_runner.api.auth import CANCEL, READ, SUBMIT
from script_runner.api.docs_page import docs
from script_runner.api.endpoint import Endpoint, Operation
from script_runner.api.errors import problem_response
from script_runner.api.operator_key import OPERATE, OperatorKey
from script_runner.api.responses import JSON
from script_runner.api.routes import artifact, health, legacy, operator, output, task
from script_runner.api.service import Call, Service


class AnyTextRoute(Route):
    """A route whose parameters take every character, line breaks included."""

    def __init__(self, path: str, endpoint: Endpoint) -> None:
        super().__init__(path, endpoint, methods=list(endpoint.operations))
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)


class UnderPrefix:
    """ASGI middleware of an API under a path prefix, whether the proxy strips it or not.

    The router takes the prefix off where it is there. (uvicorn's own root_path
    puts it in front of every path, so it needs a proxy that strips.)
    """

    def __init__(self, app: ASGIApp, *, base: str) -> None:
        self.app = app
        self.base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["root_path"] = self.base
        await self.app(scope, receive, send)


#: In order of trial; the hot path is first. Scope None: no key is needed.
_TABLE: Mapping[str, Mapping[str, Operation]] = {
    "/task": {
        "POST": Operation(task.submit, SUBMIT, "submit"),
        "GET": Operation(task.list_tasks, READ, "list"),
    },
    "/task/{id}": {
        "GET": Operation(task.read, READ, "read"),
        "DELETE": Operation(task.cancel, CANCEL, "cancel"),
    },
    "/task/{id}/cancel": {"POST": Operation(task.cancel, CANCEL, "cancel")},
    "/task/{id}/output/{stream}": {"GET": Operation(output.output, READ, "read")},
    "/task/{id}/attachments/{name:path}": {"GET": Operation(artifact.attachment, READ, "read")},
    "/task/{id}/results/{number}": {"GET": Operation(artifact.result, READ, "read")},
    "/task/{path:path}": {
        "POST": Operation(task.submit, SUBMIT, "submit"),
        "GET": Operation(task.nothing_here),
    },
    "/script/{id}": {"GET": Operation(legacy.read, READ, "read")},
    "/script/{path:path}": {"POST": Operation(legacy.submit, SUBMIT, "submit")},
    "/health": {"GET": Operation(health.health)},
    "/livez": {"GET": Operation(health.livez)},
    "/readyz": {"GET": Operation(health.readyz)},
    "/metrics": {"GET": Operation(health.metrics)},
    "/docs": {"GET": Operation(docs)},
}

#: For the operator alone; in no OpenAPI document, and not there at all without OPERATOR_TOKEN.
_OPERATOR_TABLE: Mapping[str, Mapping[str, Operation]] = {
    "/operator/demand": {"GET": Operation(operator.demand, OPERATE, "demand")},
    "/operator/drain": {"POST": Operation(operator.drain, OPERATE, "drain")},
}


def build_routes(service: Service, document: Mapping[str, Any]) -> list[Route]:
    """Return every route; *document* is the OpenAPI description."""
    text = json.dumps(document).encode()

    async def openapi(call: Call) -> Response:
        return Response(text, 200, {"cache-control": "no-cache"}, JSON)

    table = {**_TABLE, "/openapi.json": {"GET": Operation(openapi)}}
    endpoints = [Endpoint(service, path, operations) for path, operations in table.items()]
    token = service.settings.operator_token
    if token.get_secret_value():
        key = OperatorKey(token)
        endpoints += [
            Endpoint(service, path, operations, key) for path, operations in _OPERATOR_TABLE.items()
        ]
    return [AnyTextRoute(endpoint.template, endpoint) for endpoint in endpoints]


def unrouted(service: Service) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    """Return the handler of requests that no route takes: 404, or 405 with all of Allow."""

    async def answer(request: Request, error: Exception) -> Response:
        allowed: set[str] = set()
        for route in request.app.router.routes:
            if route.matches(request.scope)[0] is not Match.NONE:
                allowed |= route.methods
        if allowed:
            methods = ", ".join(sorted(allowed))
            response = problem_response(
                "method_not_allowed", f"Allowed are {methods}.", headers={"allow": methods}
            )
        else:
            response = problem_response("not_found")
        service.metrics.observe(_known(request.method), "none", response.status_code, 0.0)
        return response

    return answer


def _known(method: str) -> str:
    """Return *method* for a metric: a client must not be able to make up labels."""
    known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    return method if method in known else "other"
