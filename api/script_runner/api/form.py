"""Reading multipart/form-data: files into the artifact store, the part ``body`` as JSON.

Parsing, hashing and storing run in a thread, a block at a time. No part is held
in memory but ``body``, and that is limited.
"""

import re
from collections.abc import Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from script_runner.api.body import parse_json
from script_runner.api.errors import ApiError
from script_runner.api.threads import in_thread
from script_runner.core.artifacts import ArtifactStore, ArtifactWriter
from script_runner.core.command import FileInput
from script_runner.core.errors import InputError, Problem, TooLargeError

#: So much of the stream is handed to a thread at once.
BLOCK_BYTES = 256 * 1024
BODY_PART = "body"
MAX_FILENAME_CHARACTERS = 255
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


class FormReader:
    """Reads one request; *file_parts* maps the names of parts to those of inputs.

    ``files`` has what was stored, by the name of its part. After an error no
    writer is open, but parts that were complete stay: the caller removes them.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        prefix: str,
        file_parts: Mapping[str, str],
        max_bytes: int,
        max_body_bytes: int,
    ) -> None:
        self.files: dict[str, FileInput] = {}
        self._store = store
        self._prefix = prefix
        self._file_parts = file_parts
        self._max_bytes = max_bytes
        self._max_body_bytes = max_body_bytes
        self._seen: set[str] = set()
        self._body: bytearray | None = None
        self._is_complete = False
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        #: the part being read: a file when *_writer* is there, else ``body``
        self._part, self._filename = "", ""
        self._writer: ArtifactWriter | None = None

    async def read(self, request: Request) -> Any:
        """Read the whole request; return the value of the part ``body``, None without it."""
        parser = self._make_parser(request.headers.get("content-type", ""))
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and len(announced) < 19 and int(announced) > self._max_bytes:
            raise self._too_large()
        try:
            await self._feed(parser, request)
        except BaseException as error:
            await in_thread(self._abort, error)
            raise
        if not self._is_complete:
            raise ApiError("multipart_invalid", "The closing boundary is missing.")
        return parse_json(bytes(self._body)) if self._body else None

    async def _feed(self, parser: MultipartParser, request: Request) -> None:
        size, pending = 0, bytearray()
        async for data in request.stream():
            size += len(data)
            if size > self._max_bytes:
                raise self._too_large()
            pending += data
            if len(pending) >= BLOCK_BYTES:
                await in_thread(_parse, parser, bytes(pending))
                pending.clear()
        await in_thread(_parse, parser, bytes(pending))

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"A request with files may have at most {self._max_bytes} bytes.")

    def _make_parser(self, content_type: str) -> MultipartParser:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise ApiError("multipart_invalid", "Content-Type has no boundary.")
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_to_name,
                    "on_header_value": self._add_to_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open_part,
                    "on_part_data": self._write,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise ApiError("multipart_invalid", "The boundary is too long.") from None

    # The rest runs in a thread, called by the parser.

    def _begin_part(self) -> None:
        self._disposition = b""
        self._header = (bytearray(), bytearray())

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _open_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part in self._seen:
            raise InputError([Problem("body", "a part is given twice")])
        self._seen.add(self._part)
        if self._part == BODY_PART:
            self._body = bytearray()
        elif self._part in self._file_parts:
            self._filename = _base_name(options.get(b"filename", b""))
            self._writer = self._store.writer(self._key).__enter__()
        else:
            known = ", ".join([BODY_PART, *self._file_parts])
            raise InputError([Problem("body", f"the parts are {known}; another one was sent")])

    @property
    def _key(self) -> str:
        return f"{self._prefix}/{self._file_parts[self._part]}"

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._writer is not None:
            self._writer.write(memoryview(data)[start:end])
        elif self._body is not None:
            if len(self._body) + end - start > self._max_body_bytes:
                raise TooLargeError(f"The part body may have {self._max_body_bytes} bytes.")
            self._body += data[start:end]

    def _end_part(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)
            self.files[self._part] = FileInput(
                key=self._key, size=writer.size, digest=writer.digest, filename=self._filename
            )

    def _end(self) -> None:
        self._is_complete = True

    def _abort(self, error: BaseException) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(type(error), error, error.__traceback__)


def _parse(parser: MultipartParser, data: bytes) -> None:
    try:
        parser.write(data)
    except FormParserError:
        raise ApiError("multipart_invalid", "The parts are not separated as announced.") from None


def _base_name(filename: bytes) -> str:
    """Return the last part of what the client calls the file, on whatever system it is."""
    name = filename.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    return _UNPRINTABLE.sub("", name)[-MAX_FILENAME_CHARACTERS:]
