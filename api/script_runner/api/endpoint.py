"""One route as an ASGI application: authorize, answer, translate errors, measure.

A plain ASGI callable rather than a FastAPI path operation: accepting a task is
the hot path, and everything an operation would add per request (dependencies,
a response model, a second validation of the inputs) is done elsewhere, once.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from script_runner.api.auth import NOBODY, Provider, authenticate, check_scope
from script_runner.api.errors import problem_code, respond
from script_runner.api.service import Call, Service
from script_runner.core.errors import ScriptRunnerError

Handler = Callable[[Call], Awaitable[Response]]

logger = logging.getLogger("script_runner.api.request")
#: For the log and the metrics alone: nobody is there to read it.
CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True)
class Operation:
    """What one method of a route does; *scope* None means that no key is needed.

    *action* is its name in the audit log.
    """

    handler: Handler
    scope: str | None = None
    action: str = ""


class Endpoint:
    """All methods of one route; *template* is its name in metrics and logs.

    *provider* tells who calls, in place of the service's own.
    """

    def __init__(
        self,
        service: Service,
        template: str,
        operations: Mapping[str, Operation],
        provider: Provider | None = None,
    ) -> None:
        self.service = service
        self.provider = provider or service.provider
        self.template = template
        self.operations = dict(operations)
        if "GET" in self.operations:
            self.operations.setdefault("HEAD", self.operations["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        method = scope["method"]
        status = 500
        try:
            response = await self._answer(Request(scope, receive, send))
            status = response.status_code
            await response(scope, receive, send)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except RuntimeError as error:
            # So uvloop says that the client is gone. uvicorn knows it too, unless the
            # client had sent the next request already (pipelining).
            if "the handler is closed" not in str(error):
                raise
            status = CLIENT_CLOSED_REQUEST
        finally:
            seconds = time.perf_counter() - started
            self.service.metrics.observe(method, self.template, status, seconds)
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug(
                    "method=%s route=%s status=%d seconds=%.4f",
                    *(method, self.template, status, seconds),
                )

    async def _answer(self, request: Request) -> Response:
        operation = self.operations[request.method]
        call = Call(self.service, request, NOBODY, operation.action, self.template)
        code = ""
        try:
            if operation.scope is not None:
                await self._admit(call, operation.scope)
            response = await operation.handler(call)
        except ScriptRunnerError as error:
            response, code = respond(error), problem_code(error)
        except ClientDisconnect:
            call.record(CLIENT_CLOSED_REQUEST, "client_closed_request")
            raise
        except BaseException:
            call.record(500, "internal")
            raise
        # Before anything is sent: what a caller was answered stands in the log.
        call.record(response.status_code, code)
        return response

    async def _admit(self, call: Call, scope: str) -> None:
        """Find out who calls and whether they may; ScriptRunnerError otherwise."""
        audit = self.service.audit
        if audit is not None and audit.file.is_failing:
            action, call.action = call.action, ""  # nothing is done, so nothing is to be told
            audit.require()
            call.action = action
        call.principal = await authenticate(self.provider, call.request.headers)
        check_scope(call.principal, scope)
