"""Artifacts in a bucket (``s3://``), through s3fs, with memory bounded by one part.

s3fs is imported when a store is made, so an installation without the extra
``s3`` works with directories. Its calls to S3 are used one by one, not its
file objects: a file object that is dropped unfinished completes the upload
when it is collected, and its recursive delete hides errors.

A process that dies in a multipart upload leaves its parts; give the bucket a
lifecycle rule with AbortIncompleteMultipartUpload.
"""

import importlib
from collections.abc import Iterator
from typing import Any, NoReturn

from script_runner.core.errors import ConfigError, NotFoundError, Problem, UnavailableError

#: Size of a part, and the memory one writer needs. 10,000 parts make 80 GiB.
PART_BYTES = 8 * 1024 * 1024
#: One ranged GET of a reader; larger than a block, as each costs a round trip.
_RANGE_BYTES = 4 * 1024 * 1024
#: As many keys as S3 lists, and deletes, in one call.
PAGE_KEYS = 1000
_CHECK_SECONDS = 5.0


class S3Artifacts:
    """Objects below *prefix* of *bucket*."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._s3 = _Calls(bucket)

    def open_sink(self, key: str) -> "_PartsSink":
        return _PartsSink(self._s3, self._prefix + key)

    def size(self, key: str) -> int:
        head = self._s3.call("read", "head_object", Key=self._prefix + key)
        return int(head["ContentLength"])

    def read(self, key: str, start: int, end: int, block_bytes: int) -> Iterator[bytes]:
        while start < end:
            stop = min(start + _RANGE_BYTES, end)
            data = self._s3.get(self._prefix + key, start, stop)
            if len(data) != stop - start:
                raise UnavailableError("The artifact store sent fewer bytes than it holds.")
            for at in range(0, len(data), block_bytes):
                yield data[at : at + block_bytes]
            start = stop

    def delete_prefix(self, prefix: str) -> None:
        below = f"{self._prefix}{prefix}/"
        while True:
            # Each round lists anew: what was listed is gone, so no page token is needed.
            page = self._s3.call("cleaned", "list_objects_v2", Prefix=below, MaxKeys=PAGE_KEYS)
            keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if not keys:
                return
            answer = self._s3.call(
                "cleaned", "delete_objects", Delete={"Objects": keys, "Quiet": True}
            )
            if answer.get("Errors"):
                code = answer["Errors"][0].get("Code", "unknown")
                raise UnavailableError(f"The artifact store cannot be cleaned: {code}.")

    def check(self) -> None:
        self._s3.call("reached", "head_bucket", timeout=_CHECK_SECONDS)


class _PartsSink:
    """One PUT when all fits into one part, else a multipart upload."""

    def __init__(self, s3: "_Calls", key: str) -> None:
        self._s3 = s3
        self._key = key
        self._buffer = bytearray()
        self._upload_id = ""
        self._parts: list[dict[str, Any]] = []

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            room = PART_BYTES - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == PART_BYTES:
                self._upload_part()

    def commit(self) -> None:
        if not self._upload_id:
            self._s3.call("written", "put_object", Key=self._key, Body=bytes(self._buffer))
            return
        try:
            if self._buffer:
                self._upload_part()
            self._s3.call(
                "written",
                "complete_multipart_upload",
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
            )
        except UnavailableError:
            self.abort()
            raise

    def abort(self) -> None:
        if not self._upload_id:
            return
        try:
            self._s3.call(
                "cleaned", "abort_multipart_upload", Key=self._key, UploadId=self._upload_id
            )
        except (UnavailableError, NotFoundError):
            # The bucket's lifecycle rule removes the parts; report what came first.
            return

    def _upload_part(self) -> None:
        if not self._upload_id:
            answer = self._s3.call("written", "create_multipart_upload", Key=self._key)
            self._upload_id = answer["UploadId"]
        number = len(self._parts) + 1
        answer = self._s3.call(
            "written",
            "upload_part",
            Key=self._key,
            UploadId=self._upload_id,
            PartNumber=number,
            Body=bytes(self._buffer),
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._buffer.clear()


class _Calls:
    """The border to s3fs: calls of S3 by name, with our errors."""

    def __init__(self, bucket: str) -> None:
        try:
            s3fs = importlib.import_module("s3fs")
            botocore = importlib.import_module("botocore.exceptions")
        except ImportError as error:
            hint = "an s3:// URL needs s3fs: pip install 'script-runner[s3]'"
            raise ConfigError([Problem("ARTIFACTS_URL", hint)]) from error
        self._bucket = bucket
        # fsspec would hand out an earlier object with its endpoint and keys.
        # Checksums beyond the required ones are refused by a number of
        # S3-compatible stores; every artifact has a sha-256 of ours.
        self._fs: Any = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )
        self._errors: tuple[type[Exception], ...] = (
            OSError,
            botocore.BotoCoreError,
            botocore.ClientError,
        )

    def call(self, verb: str, method: str, **arguments: Any) -> Any:
        try:
            return self._fs.call_s3(method, Bucket=self._bucket, **arguments)
        except self._errors as error:
            _raise_ours(verb, error, is_object="Key" in arguments)

    def get(self, key: str, start: int, end: int) -> bytes:
        try:
            data: bytes = self._fs.cat_file(f"{self._bucket}/{key}", start=start, end=end)
        except self._errors as error:
            _raise_ours("read", error, is_object=True)
        return data


def _raise_ours(verb: str, error: Exception, *, is_object: bool) -> NoReturn:
    if isinstance(error, FileNotFoundError):
        if is_object and verb == "read":
            raise NotFoundError("These bytes are no longer stored.") from error
        raise UnavailableError(
            f"The artifact store cannot be {verb}: the bucket does not exist."
        ) from error
    # The texts of botocore hold endpoint, bucket and key: the kind must do.
    raise UnavailableError(
        f"The artifact store cannot be {verb}: {type(error).__name__}."
    ) from error
