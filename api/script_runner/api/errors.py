"""The one table from errors to HTTP answers (RFC 9457, application/problem+json).

Every ``code`` that an answer of the API can carry stands in :data:`PROBLEMS`,
with its status; docs/reference/errors.md describes each (a test compares).
The routes raise the errors of core, or :class:`ApiError` with one of the codes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.responses import Response

from script_runner.core.errors import Problem, QuotaError, RequestError, ScriptRunnerError

MEDIA_TYPE = "application/problem+json"
#: After a 503 a client is asked to wait so long.
RETRY_SECONDS = 2


@dataclass(frozen=True)
class ProblemKind:
    """What one code means over HTTP."""

    status: int
    title: str


#: code -> status and title. Codes are never renamed.
PROBLEMS: Mapping[str, ProblemKind] = {
    "request_invalid": ProblemKind(400, "The request is malformed"),
    "json_invalid": ProblemKind(400, "The body is not valid JSON"),
    "multipart_invalid": ProblemKind(400, "The body is not valid multipart/form-data"),
    "query_invalid": ProblemKind(400, "A query parameter cannot be used"),
    "header_invalid": ProblemKind(400, "A request header cannot be used"),
    "unauthenticated": ProblemKind(401, "A valid key or token is required"),
    "insufficient_scope": ProblemKind(403, "The key or token does not allow this"),
    "host_refused": ProblemKind(403, "This host name is not served"),
    "cross_site_refused": ProblemKind(403, "Requests of other web sites are refused"),
    "not_found": ProblemKind(404, "Not found"),
    "method_not_allowed": ProblemKind(405, "The method is not allowed here"),
    "not_acceptable": ProblemKind(406, "No such representation"),
    "idempotency_in_progress": ProblemKind(409, "It is too early to repeat this request"),
    "too_large": ProblemKind(413, "The request is too large"),
    "unsupported_media_type": ProblemKind(415, "The media type of the body is not supported"),
    "range_not_satisfiable": ProblemKind(416, "The range lies outside"),
    "input_invalid": ProblemKind(422, "An input is missing or wrong"),
    "idempotency_key_reused": ProblemKind(422, "An Idempotency-Key stands for one request"),
    "quota_exceeded": ProblemKind(429, "The caller's quota is used up"),
    "internal": ProblemKind(500, "The server failed"),
    "unavailable": ProblemKind(503, "The service cannot answer now"),
    "queue_full": ProblemKind(503, "The queue is full"),
    "closed": ProblemKind(503, "No new tasks are taken"),
}

#: Codes of the answers that Starlette itself gives.
CODES_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class ApiError(RequestError):
    """A refusal that only HTTP knows; *api_code* is a key of :data:`PROBLEMS`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.api_code = code
        self.problems = tuple(problems)
        self.headers = dict(headers or {})


def problem_response(
    code: str,
    detail: str = "",
    *,
    problems: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the answer for *code*; an unknown code is answered as ``internal``."""
    kind = PROBLEMS.get(code)
    if kind is None:
        code, detail, problems = "internal", "", ()
        kind = PROBLEMS[code]
    body: dict[str, object] = {
        "type": f"urn:script-runner:error:{code}",
        "title": kind.title,
        "status": kind.status,
        "code": code,
    }
    if detail:
        body["detail"] = detail
    if problems:
        body["errors"] = [{"where": item.where, "message": item.message} for item in problems]
    answer_headers = {"cache-control": "no-store"}
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer_headers["retry-after"] = str(RETRY_SECONDS)
    answer_headers.update(headers or {})
    return Response(json.dumps(body), kind.status, answer_headers, MEDIA_TYPE)


def problem_code(error: ScriptRunnerError) -> str:
    """Return the code with which *error* is answered."""
    code = error.api_code if isinstance(error, ApiError) else error.code
    return code if code in PROBLEMS else "internal"


def respond(error: ScriptRunnerError) -> Response:
    """Translate *error*; what is not the caller's business becomes ``internal``."""
    if isinstance(error, ApiError):
        return problem_response(
            error.api_code, str(error), problems=error.problems, headers=error.headers
        )
    if error.code not in PROBLEMS:
        return problem_response("internal")
    problems = getattr(error, "problems", ())
    if problems:
        return problem_response(error.code, problems=problems)  # they say it all
    headers = None
    if isinstance(error, QuotaError):
        headers = {"retry-after": str(error.retry_after_seconds)}
    return problem_response(error.code, str(error), headers=headers)
