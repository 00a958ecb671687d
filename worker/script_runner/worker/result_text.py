"""Reading a result's file as text, in constant memory.

Owns encodings and sizes. A byte order mark chooses UTF-8, UTF-16 or UTF-32 and
is no part of the text; without one the text is UTF-8. Bytes that are not valid
in it become U+FFFD: one odd byte in a comment must not cost a long analysis.
"""

import codecs
import io
import os

from script_runner.core.errors import ScriptError
from script_runner.core.settings import MIB
from script_runner.worker.keeper import read_block

#: One row may be this large in the file, give or take a block.
MAX_ROW_BYTES = 8 * MIB
_BLOCK_BYTES = 256 * 1024

#: UTF-32-LE begins like UTF-16-LE, so it comes first.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Source(io.RawIOBase):
    """The bytes of an open result file behind its byte order mark, counted and limited.

    *name* is the path as in config.json, or the stream; *label* is how errors
    call it. Closes *fd* when closed.
    """

    def __init__(self, fd: int, name: str, label: str, max_bytes: int, limit_name: str) -> None:
        super().__init__()
        self._fd = fd
        self.name = name
        self.label = label
        self._max_bytes = max_bytes
        self._limit_name = limit_name
        self.encoding = "utf-8"
        #: bytes read so far
        self.count = 0
        #: *count* at the end of the last whole row; who reads rows sets it
        self.row_end = 0

    @classmethod
    def open(cls, fd: int, name: str, label: str, max_bytes: int, limit_name: str) -> "Source":
        """Begin to read *fd*; it is closed also when this raises ScriptError."""
        # Nothing in the constructor may raise: a half-made object would close
        # the descriptor at some later time, when the number is another file's.
        source = cls(fd, name, label, max_bytes, limit_name)
        try:
            source._begin()
        except BaseException:
            source.close()
            raise
        return source

    def _begin(self) -> None:
        # A sparse file has its size at once; do not read 10 TiB of zeros first.
        self._check_size(os.fstat(self._fd).st_size)
        head = read_block(self._fd, 4)
        marks = [(mark, codec) for mark, codec in _BYTE_ORDER_MARKS if head.startswith(mark)]
        mark, self.encoding = marks[0] if marks else (b"", self.encoding)
        os.lseek(self._fd, len(mark), os.SEEK_SET)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = read_block(self._fd, len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        self._check_size(self.count)
        if self.count - self.row_end > MAX_ROW_BYTES + _BLOCK_BYTES:
            raise ScriptError(
                "result_too_large",
                f"{self.label} has a row of more than {MAX_ROW_BYTES // MIB} MiB; "
                "perhaps a quote is never closed, or no line is ever ended.",
            )
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()

    def lines(self, newline: str) -> io.TextIOWrapper:
        """Return the text, to be iterated by line; *newline* as for ``open``."""
        buffered = io.BufferedReader(self, _BLOCK_BYTES)
        return io.TextIOWrapper(buffered, encoding=self.encoding, errors="replace", newline=newline)

    def whole(self) -> str:
        """Return everything."""
        self.row_end = self._max_bytes  # one document has no rows
        data = b"".join(iter(lambda: self.read(_BLOCK_BYTES), b""))
        return data.decode(self.encoding, "replace")

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise ScriptError(
                "result_too_large",
                f"{self.label} has more than the {self._max_bytes:,} bytes that "
                f"{self._limit_name} allows.",
            )
