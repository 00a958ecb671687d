"""The OpenAPI document: the fixed operations, and the script's own typed one.

Made once from config.json and the models of models.py; FastAPI's generator is
not used, because the inputs are known only when the configuration is.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic.json_schema import models_json_schema

from script_runner.api.auth import Provider
from script_runner.api.errors import MEDIA_TYPE, PROBLEMS
from script_runner.api.models import MODELS
from script_runner.api.openapi_inputs import (
    described_examples,
    described_inputs,
    example_requests,
    needs_path,
    path_schema,
    path_text,
    query_parameters,
    request_body,
)
from script_runner.core.config import Config
from script_runner.core.task import TaskState

JSON = "application/json"
_REF = "#/components/schemas/{model}"

#: Answers that any operation can give.
_ALWAYS = ("unauthenticated", "insufficient_scope", "internal", "unavailable")
_ON_SUBMIT = (
    "request_invalid",
    "idempotency_in_progress",
    "too_large",
    "unsupported_media_type",
    "input_invalid",
    "quota_exceeded",
)


def server_version() -> str:
    """Return the installed version; "local" in a source tree, as 0.18 said."""
    try:
        return version("script-runner")
    except PackageNotFoundError:
        return "local"


def build_openapi(config: Config, provider: Provider, base: str) -> dict[str, Any]:
    """Return the description of this API, for this script."""
    _, definitions = models_json_schema(
        [(model, "serialization") for model in MODELS], ref_template=_REF
    )
    schemes = provider.security_schemes()
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": config.name or "script-runner",
            "version": server_version(),
            "description": config.description or "A script behind a durable HTTP API.",
        },
        "servers": [{"url": base or "/"}],
        "paths": {**_script_paths(config), **_probe_paths()},
        "components": {
            "schemas": definitions["$defs"],
            "responses": {code: _problem(code) for code in PROBLEMS},
            "securitySchemes": dict(schemes),
        },
        "security": [{name: []} for name in schemes],
    }
    _merge(document["paths"], _task_paths())
    return document


def _merge(paths: dict[str, Any], others: Mapping[str, Any]) -> None:
    for path, item in others.items():
        paths.setdefault(path, {}).update(item)


def _problem(code: str) -> dict[str, Any]:
    kind = PROBLEMS[code]
    schema = {"$ref": _REF.format(model="ProblemDocument")}
    return {
        "description": f"{kind.title} (`{code}`).",
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def _problems(*codes: str) -> dict[str, Any]:
    """Return the problem answers of an operation by status; one code stands for its status."""
    answers: dict[str, Any] = {}
    for code in (*codes, *_ALWAYS):
        status = str(PROBLEMS[code].status)
        answers.setdefault(status, {"$ref": f"#/components/responses/{code}"})
    return answers


def _json(model: str, text: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": text,
        "content": {JSON: {"schema": {"$ref": _REF.format(model=model)}}},
    }
    if headers:
        answer["headers"] = {
            name: {"description": about, "schema": {"type": "string"}}
            for name, about in headers.items()
        }
    return answer


def _bytes(text: str, *media_types: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary"}
    return {"description": text, "content": {media: {"schema": schema} for media in media_types}}


def _parameter(
    place: str, name: str, schema: Mapping[str, Any], text: str, *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": required or place == "path",
        "description": text,
        "schema": dict(schema),
    }


_TEXT = {"type": "string"}
_ID = _parameter("path", "id", _TEXT, "The id of the task.")
_PREFER = _parameter(
    "header",
    "Prefer",
    {"type": "string", "examples": ["wait=30"]},
    "`wait=N` holds the answer until the task is finished, N seconds at most (RFC 7240).",
)
_SUBMIT_HEADERS = [
    _PREFER,
    _parameter(
        "header",
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255},
        "The same key with the same request stands for the same task, however often it is sent.",
    ),
    _parameter(
        "header",
        "X-Priority",
        {"type": "integer", "minimum": 0, "maximum": 9, "default": 5},
        "9 is started first.",
    ),
]
_RANGE = _parameter("header", "Range", _TEXT, "One range of bytes (RFC 9110).")


def _script_paths(config: Config) -> dict[str, Any]:
    """Return the operations that start the script, with a path where one has a meaning.

    Its name is that of the task elsewhere: to OpenAPI, two templates of one shape are the same.
    """
    paths = {}
    on_path = path_text(config)
    about = f"The path of the request, which may have slashes. {on_path}".strip()
    path = _parameter("path", "id", path_schema(config), about)
    if not needs_path(config):
        paths["/task"] = {"post": _submit(config, "submitTask")}
    if on_path:
        operation = _submit(config, "submitTaskAtPath")
        operation["parameters"].insert(0, path)
        paths["/task/{id}"] = {"post": operation}
    legacy = _submit(config, "submitScript")
    legacy["parameters"] = [
        path,
        *(item for item in legacy["parameters"] if item is not _PREFER),
    ]
    del legacy["responses"]["202"]
    legacy["responses"]["200"] = _json("LegacyAccepted", "The task was accepted.")
    legacy |= {"tags": ["0.18"], "summary": "Run the script (0.18)", "deprecated": True}
    paths["/script/{id}"] = {"post": legacy}
    return paths


def _submit(config: Config, operation_id: str) -> dict[str, Any]:
    headers = {
        "Location": "The task.",
        "Preference-Applied": "The wait that was granted.",
        "Idempotency-Replayed": "`true` when the task was accepted by an earlier request.",
    }
    text = config.description
    examples = example_requests(config)
    if examples:
        text += f"\n\nExamples:\n\n{examples}"
    operation: dict[str, Any] = {
        "operationId": operation_id,
        "tags": ["script"],
        "summary": config.name or "Run the script",
        "description": text.strip(),
        "parameters": [*query_parameters(config), *_SUBMIT_HEADERS],
        "responses": {
            "200": _json("Task", "The finished task, with `Prefer: wait`.", headers),
            "202": _json("AcceptedTask", "The task was accepted and is not lost.", headers),
            **_problems(*_ON_SUBMIT),
        },
        "x-script-runner-inputs": described_inputs(config),
        "x-script-runner-examples": described_examples(config),
    }
    body = request_body(config)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _operation(
    operation_id: str,
    summary: str,
    parameters: list[dict[str, Any]],
    responses: dict[str, Any],
    tag: str = "tasks",
) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "tags": [tag],
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    }


def _task_paths() -> dict[str, Any]:
    task = {"200": _json("Task", "The task.")}
    stop = {
        "200": _json("TaskSummary", "The task is finished, or was."),
        "202": _json("TaskSummary", "The script is being stopped."),
        **_problems("not_found"),
    }
    legacy = {"200": _json("LegacyTask", "The task as 0.18 showed it.")}
    return {
        "/task": {"get": _list_operation()},
        "/task/{id}": {
            "get": _operation(
                "getTask", "Read a task", [_ID, _PREFER], {**task, **_problems("not_found")}
            ),
            "delete": _operation("deleteTask", "Cancel a task", [_ID], stop),
        },
        "/task/{id}/cancel": {"post": _operation("cancelTask", "Cancel a task", [_ID], stop)},
        "/task/{id}/output/{stream}": {"get": _output_operation()},
        "/task/{id}/attachments/{name}": {"get": _attachment_operation()},
        "/task/{id}/results/{number}": {"get": _result_operation()},
        "/script/{id}": {
            "get": _operation(
                "getScript", "Read a task (0.18)", [_ID], {**legacy, **_problems()}, "0.18"
            )
            | {"deprecated": True}
        },
    }


def _list_operation() -> dict[str, Any]:
    states = {"type": "array", "items": {"enum": [state.value for state in TaskState]}}
    moment = {"type": "string", "format": "date-time"}
    limit = {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    parameters = [
        _parameter("query", "state", states, "Only these states; may be repeated."),
        _parameter("query", "created_after", moment, "Only tasks accepted later."),
        _parameter("query", "created_before", moment, "Only tasks accepted earlier."),
        _parameter("query", "limit", limit, "Tasks on one page."),
        _parameter("query", "cursor", _TEXT, "`next_cursor` of the page before."),
        _parameter("query", "owner", _TEXT, "Somebody else's tasks; needs the scope admin."),
    ]
    page = _json("TaskPage", "One page.", {"Link": "`rel=next` (RFC 8288)."})
    answers = {"200": page, **_problems("query_invalid")}
    return _operation("listTasks", "List one's tasks, newest first", parameters, answers)


def _output_operation() -> dict[str, Any]:
    stream = _parameter("path", "stream", {"enum": ["stdout", "stderr"]}, "Which output.")
    last = _parameter(
        "header",
        "Last-Event-ID",
        _TEXT,
        "`<attempt>:<offset>`: follow from there. Also as the query parameter `last_event_id`.",
    )
    text = (
        "The output of the latest attempt. As `text/event-stream` it is followed until its end: "
        'a message has `{"data": "<base64>"}` and the id `<attempt>:<offset>`; `attempt` says '
        "that another attempt began; `end` has the state."
    )
    answers = {
        "200": _bytes(text, "text/plain", "text/event-stream"),
        "206": _bytes("A part.", "text/plain"),
        **_problems("header_invalid", "not_found", "range_not_satisfiable"),
    }
    parameters = [_ID, stream, _RANGE, last]
    return _operation("getOutput", "Read or follow the output", parameters, answers)


def _attachment_operation() -> dict[str, Any]:
    name = _parameter("path", "name", _TEXT, "The name of the attachment; may have slashes.")
    answers = {
        "200": _bytes("The attachment.", "application/octet-stream"),
        "206": _bytes("A part.", "application/octet-stream"),
        "304": {"description": "Not changed (If-None-Match)."},
        **_problems("not_found", "range_not_satisfiable"),
    }
    return _operation("getAttachment", "Download an attachment", [_ID, name, _RANGE], answers)


def _result_operation() -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0}
    number = _parameter("path", "number", schema, "The place of the result set, from 0.")
    forms = (JSON, "text/csv", "application/jsonl", "application/x-ndjson")
    answers = {
        "200": _bytes("The result set, in the form that Accept asks for.", *forms),
        **_problems("not_found", "not_acceptable"),
    }
    return _operation("getResultSet", "Download a result set", [_ID, number], answers)


def _probe_paths() -> dict[str, Any]:
    ok = {"200": {"description": "It is so."}, "503": {"description": "It is not."}}
    ready = {
        "200": _json("Readiness", "They can."),
        "503": _json("Readiness", "They cannot: see which part is not ok."),
    }
    metrics = {"200": _bytes("The Prometheus text format.", "text/plain")}
    probes = {
        "/health": ("getHealth", "Version (0.18)", {"200": _json("Health", "The version.")}),
        "/livez": ("getLiveness", "Is the process alive?", ok),
        "/readyz": ("getReadiness", "Can tasks be accepted?", ready),
        "/metrics": ("getMetrics", "Metrics", metrics),
    }
    return {
        path: {"get": {**_operation(name, text, [], answers, "service"), "security": []}}
        for path, (name, text, answers) in probes.items()
    }
