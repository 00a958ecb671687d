"""The one door to the Kubernetes API.

Objects go in and out as plain dicts. Every failure is one of the errors below, each saying
whether the same call may succeed later; the cause is chained. Every request has a time limit
and is counted by verb and kind.

    ClusterError
    ├── UnavailableError   no answer, or a 429 or 5xx: try again
    ├── ForbiddenError     401 or 403: a role is missing, or the namespace is going away
    ├── NotFoundError      404
    ├── ConflictError      409: somebody else was faster, or it exists already
    ├── GoneError          410: the resource version is too old, list again
    └── RefusedError       any other 4xx: the API will not take this object
"""

import asyncio
import json
import logging
import math
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration

from script_runner.operator.kinds import KINDS, Object
from script_runner.operator.metrics import Metrics

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"
# Without an alternative: the API would choose it for a list that was asked for as one object, and
# send what all Secrets hold.
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
#: One request; a LIST may be long.
REQUEST_SECONDS = 30.0
LIST_SECONDS = 60.0
#: Bookmarks come every minute; without anything for longer the connection is dead.
SILENCE_SECONDS = 90.0
PAGE_SIZE = 500
#: Each watch holds a connection; the workers' requests come on top.
MAX_CONNECTIONS = 1000

logger = logging.getLogger("script_runner.operator.cluster")


class ClusterError(Exception):
    """The base of all: what Kubernetes answered, in one line."""

    can_retry = True

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class UnavailableError(ClusterError):
    """The API gave no answer, or none that can be used now."""


class ForbiddenError(ClusterError):
    """The operator may not do that."""


class NotFoundError(ClusterError):
    """There is no such object, or no such kind."""


class ConflictError(ClusterError):
    """The object was changed meanwhile, or exists already."""


class GoneError(ClusterError):
    """The resource version is no longer known."""


class RefusedError(ClusterError):
    """The object is not acceptable as it is."""

    can_retry = False


ERRORS: Mapping[int, type[ClusterError]] = {
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    429: UnavailableError,
}


@dataclass(frozen=True)
class Listing:
    """What a LIST gave: the objects, and the moment from which to watch."""

    items: list[dict[str, Any]]
    resource_version: str


@dataclass(frozen=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK, with the object."""

    type: str
    object: dict[str, Any]


class Cluster:
    """A connection to one API server; made by :meth:`connect`, ended by :meth:`close`."""

    def __init__(self, client: ApiClient, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics

    @classmethod
    async def connect(cls, metrics: Metrics, kubeconfig: Path | None) -> "Cluster":
        """Use the pod's service account, or *kubeconfig*; nothing is asked of the API yet."""
        configuration = Configuration()
        try:
            if kubeconfig is None:
                kubernetes_config.load_incluster_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
            else:
                await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=str(kubeconfig),
                    client_configuration=configuration,
                    persist_config=False,
                )
            configuration.connection_pool_maxsize = MAX_CONNECTIONS
            # A retry of its own would hide from the work queue that the API is in trouble.
            configuration.retries = None
            return cls(ApiClient(configuration), metrics)
        except (kubernetes_config.ConfigException, OSError, ssl.SSLError) as error:
            raise ClusterError(f"no usable credentials for Kubernetes: {error}") from error

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def list(
        self, kind: str, namespace: str | None, selector: str = "", *, metadata_only: bool = False
    ) -> Listing:
        """Return every object of *kind*, read page by page."""
        items: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "limit": str(PAGE_SIZE)}
        while True:
            page = await self._call(
                "GET",
                kind,
                path(kind, namespace),
                verb="list",
                query=query,
                accept=METADATA_LIST if metadata_only else JSON,
                seconds=LIST_SECONDS,
            )
            items += page.get("items") or []
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(items, metadata["resourceVersion"])
            query["continue"] = metadata["continue"]

    async def get(
        self, kind: str, namespace: str, name: str, *, metadata_only: bool = False
    ) -> dict[str, Any]:
        """Return one object; NotFoundError when there is none."""
        accept = METADATA if metadata_only else JSON
        return await self._call("GET", kind, path(kind, namespace, name), verb="get", accept=accept)

    async def apply(
        self, manifest: Object, manager: str, *, subresource: str = ""
    ) -> dict[str, Any]:
        """Apply *manifest* on the server's side as *manager*, taking over disputed fields."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        where = path(kind, metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        return await self._call(
            "PATCH", kind, where, verb="apply", query=query, body=manifest, content=APPLY
        )

    async def create(self, manifest: Object) -> dict[str, Any]:
        """Create an object; ConflictError when the name is taken."""
        kind = manifest["kind"]
        where = path(kind, manifest["metadata"]["namespace"])
        return await self._call("POST", kind, where, verb="create", body=manifest)

    async def merge(
        self, kind: str, namespace: str, name: str, patch: Object, manager: str
    ) -> dict[str, Any]:
        """Merge *patch* into an object; a uid or resourceVersion in it makes that conditional."""
        return await self._call(
            "PATCH",
            kind,
            path(kind, namespace, name),
            verb="patch",
            query={"fieldManager": manager},
            body=patch,
            content=MERGE,
        )

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this *uid*; one that is gone already is well too."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        where = path(kind, namespace, name)
        try:
            await self._call("DELETE", kind, where, verb="delete", body=options)
        except NotFoundError:
            return

    async def watch(
        self,
        kind: str,
        namespace: str | None,
        selector: str,
        since: str,
        seconds: float,
        *,
        metadata_only: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        """Give every change after *since* for about *seconds*; GoneError: list anew."""
        query = {
            "labelSelector": selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(math.ceil(seconds)),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_SECONDS, sock_read=SILENCE_SECONDS
        )
        accept = METADATA if metadata_only else JSON
        self._metrics.count_request("watch", kind)
        try:
            response = await self._send(
                "GET", path(kind, namespace), query, {"Accept": accept}, None, timeout
            )
            try:
                await _raise_for_status(response)
                async for line in response.content:
                    yield _watch_event(line)
            finally:
                response.close()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _no_answer(error) from error

    async def _call(
        self,
        method: str,
        kind: str,
        where: str,
        *,
        verb: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = JSON,
        accept: str = JSON,
        seconds: float = REQUEST_SECONDS,
    ) -> dict[str, Any]:
        self._metrics.count_request(verb, kind)
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            response = await self._send(method, where, query or {}, headers, body, timeout)
            async with response:
                await _raise_for_status(response)
                answer: dict[str, Any] = json.loads(await response.read())
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _no_answer(error) from error

    async def _send(
        self,
        method: str,
        where: str,
        query: Mapping[str, str],
        headers: dict[str, str],
        body: Object | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        configuration = self._client.configuration
        # Each time anew: the token of a service account is exchanged every hour.
        token = await configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        asked = urlencode({key: value for key, value in query.items() if value})
        url = f"{configuration.host}{where}{'?' if asked else ''}{asked}"
        answer = await self._client.rest_client.request(  # type: ignore[no-untyped-call]
            method, url, headers=headers, body=body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        return response


def path(kind: str, namespace: str | None, name: str = "", subresource: str = "") -> str:
    """Return the path of a collection, an object or its subresource."""
    known = KINDS[kind]
    parts = [known.root]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts += [part for part in (known.plural, name, subresource) if part]
    return "/".join(parts)


def _watch_event(line: bytes) -> WatchEvent:
    event = json.loads(line)
    if event["type"] == "ERROR":
        status = event["object"]
        raise _error_of(int(status.get("code", 500)), str(status.get("message", "watch failed")))
    return WatchEvent(event["type"], event["object"])


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = (await response.read()).decode(errors="replace")
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        message = text.strip()[:300] or response.reason or "no reason given"
    raise _error_of(response.status, message)


def _error_of(status: int, message: str) -> ClusterError:
    default = UnavailableError if status >= 500 else RefusedError
    return ERRORS.get(status, default)(message, status)


def _no_answer(error: Exception) -> UnavailableError:
    reason = "no answer in time" if isinstance(error, asyncio.TimeoutError) else str(error)
    return UnavailableError(f"Kubernetes API: {reason or type(error).__name__}")
