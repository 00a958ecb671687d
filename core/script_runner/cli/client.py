"""The HTTP client of the API: one request each, errors as sentences.

Owns how the API is reached (URL, key, proxies, time limits) and what its errors
look like to a person. What is asked for, and what is shown, is the commands'.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

import httpx2

from script_runner.cli.failures import Failure, with_option
from script_runner.cli.text import escape
from script_runner.core.errors import Problem

KEY_VARIABLE = "SCRIPT_RUNNER_KEY"

CONNECT_SECONDS = 10.0
#: The API answers at once, or sends something at least every 15 seconds.
READ_SECONDS = 45.0
MAX_ERROR_BYTES = 256 * 1024

#: Codes whose detail says too little without the title.
_NEED_TITLE = frozenset(
    {"", "json_invalid", "multipart_invalid", "not_acceptable", "range_not_satisfiable"}
)
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_TASK_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


class LostConnectionError(Failure):
    """The API could not be reached, or the connection broke; the same call may succeed later.

    *was_sent* is false when the request surely never arrived.
    """

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class AnswerError(Failure):
    """The API answered with an error."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def can_retry(self) -> bool:
        """Tell if the very same request may be accepted in a moment."""
        if self.code == "closed":
            return False  # somebody closed the service, and it stays so for longer
        return self.status in (429, 502, 503, 504) or self.code == "idempotency_in_progress"


@dataclass(frozen=True)
class _KeyAuth(httpx2.Auth):
    """Sends the key, whatever ~/.netrc has for the host."""

    key: str

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        if self.key:
            request.headers["authorization"] = f"Bearer {self.key}"
        yield request


class ApiClient:
    """Calls one API at *url* (a path prefix included) with *key*, which may be empty."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = _check_url(url)
        self._http = httpx2.Client(
            auth=_KeyAuth(key),
            timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            # HTTP_PROXY is not meant for this machine, even without NO_PROXY.
            trust_env=not _is_loopback(self.url),
            headers={"user-agent": "script-runner-cli"},
        )

    def close(self) -> None:
        self._http.close()

    def get_task(self, task_id: str, *, wait_seconds: int = 0) -> dict[str, Any]:
        """Return the task; with *wait_seconds*, when it is terminal or the time is over."""
        headers = {"prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        return self._json("GET", task_path(task_id), "state", headers=headers)

    def list_tasks(self, parameters: Sequence[tuple[str, str]]) -> dict[str, Any]:
        return self._json("GET", "/task", "tasks", params=list(parameters))

    def cancel(self, task_id: str) -> dict[str, Any]:
        return self._json("POST", f"{task_path(task_id)}/cancel", "state")

    def submit(self, path: str, **arguments: Any) -> dict[str, Any]:
        """POST a task; *arguments* as httpx2 takes them."""
        suffix = "/".join(_segment(part) for part in path.split("/"))
        return self._json("POST", f"/task/{suffix}" if suffix else "/task", "id", **arguments)

    def openapi(self) -> dict[str, Any]:
        return self._json("GET", "/openapi.json", "paths")

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx2.Response]:
        """GET *path* without reading the body; it is an error unless the status is 2xx."""
        with self._failures():
            with self._http.stream("GET", self.url + path, headers=headers) as response:
                if not response.is_success:
                    raise _answer_error(response, _read_limited(response))
                yield response

    def _json(self, method: str, path: str, member: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer, an object that has *member* at least."""
        with self._failures():
            response = self._http.request(method, self.url + path, **arguments)
        if not response.is_success:
            raise _answer_error(response, response.content)
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or member not in answer:
            raise Failure(f"what answers at {self.url} is not the API of script-runner")
        return answer

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            is_slow = isinstance(error, httpx2.TimeoutException)
            reason = "it does not answer" if is_slow else _ERRNO.sub("", str(error)).lower()
            raise LostConnectionError(
                f"cannot reach the API at {self.url}: {reason}.\n"
                "  Is `script-runner serve` running there? Another address: --url, or "
                "SCRIPT_RUNNER_URL.",
                was_sent=False,
            ) from error
        except (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError) as error:
            what = str(error) or type(error).__name__
            raise LostConnectionError(
                f"the connection to the API at {self.url} broke: {escape(what)}", was_sent=True
            ) from error
        except httpx2.InvalidURL as error:
            raise Failure(f"the URL cannot be used: {escape(str(error))}") from error
        except UnicodeEncodeError as error:
            raise Failure(
                "the request cannot be sent: a value is not UTF-8, or a key not ASCII"
            ) from error


def task_path(task_id: str) -> str:
    """Return the path of a task; Failure when *task_id* cannot be an id."""
    if not _TASK_ID.fullmatch(task_id):
        raise Failure(f"{escape(task_id)!r} is not the id of a task")
    return f"/task/{task_id}"


def attachment_path(task_id: str, name: str) -> str:
    """Return the path of an attachment; *name* may hold bytes that are no UTF-8."""
    parts = (_segment(part) for part in name.split("/"))
    return f"{task_path(task_id)}/attachments/{'/'.join(parts)}"


def _segment(text: str) -> str:
    quoted = quote(text, safe="", errors="surrogateescape")
    # "." and ".." would be resolved on the way.
    return quoted.replace(".", "%2E") if text in (".", "..") else quoted


def _check_url(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise Failure(f"the URL cannot be used: {escape(str(error))}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query:
        raise Failure("the URL must be like http://127.0.0.1:8000 or https://example.org/lab")
    return url.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _read_limited(response: httpx2.Response) -> bytes:
    content = b""
    for block in response.iter_bytes():
        content += block
        if len(content) > MAX_ERROR_BYTES:
            break
    return content


def _answer_error(response: httpx2.Response, content: bytes) -> AnswerError:
    """Translate a problem+json answer; anything else into its status."""
    try:
        problem = httpx2.Response(response.status_code, content=content).json()
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict) or "title" not in problem:
        hint = f" to {response.headers['location']}" if response.is_redirect else ""
        message = f"HTTP {response.status_code} {response.reason_phrase}{hint}".rstrip()
        return AnswerError(response.status_code, "", escape(message), _retry_after(response))
    code = str(problem.get("code", ""))
    message = escape(_sentence(problem, code))
    if code == "unauthenticated":
        message = _with_key_hint(message, has_key="authorization" in response.request.headers)
    if errors := problem.get("errors"):
        message = "\n".join([f"{message.rstrip('.')}:", *(f"  {_problem_line(e)}" for e in errors)])
    return AnswerError(response.status_code, code, message, _retry_after(response))


def _sentence(problem: Mapping[str, Any], code: str) -> str:
    title, detail = str(problem["title"]), str(problem.get("detail") or "")
    if code in _NEED_TITLE and detail:
        return f"{title}: {detail}"
    return detail or title


def _with_key_hint(message: str, *, has_key: bool) -> str:
    where = f"set {KEY_VARIABLE} or use --key-file"
    if not has_key:
        return f"the API asks for a key or token: {where}"
    return f"{message}\n  For another key or token: {where}."


def _problem_line(item: Any) -> str:
    if not isinstance(item, Mapping):
        return escape(str(item))
    problem = Problem(str(item.get("where", "")), str(item.get("message", "")))
    return escape(str(with_option(problem)))


def _retry_after(response: httpx2.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() and len(value) < 6 else None
