"""Settings: read once from the environment into a frozen value.

Built by :func:`load_settings`, never at import. Each field is documented in
docs/reference/settings.md, which is generated from here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from script_runner.core.errors import ConfigError, Problem

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """Everything that differs between two installations of the same script.

    The environment variable of a field is its name in capitals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: Path = Field(Path("config.json"), description="The script's configuration file.")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis 6.2 or later: records, queue and wake-ups. `rediss://` for TLS.",
    )
    redis_namespace: str = Field(
        "sr",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="What the keys start with: several installations may share one Redis, each "
        "with a namespace of its own.",
    )
    artifacts_url: str = Field(
        "file:///var/lib/script-runner/artifacts",
        description="Where results, attachments and long output are kept: `file:///dir` or "
        "`s3://bucket/prefix`. API and workers need the same.",
    )
    durability: Literal["everysec", "strict"] = Field(
        "everysec",
        description="`strict` answers 202 only when Redis has the task on disk (WAITAOF, Redis "
        "7.2 or later, or `appendfsync always`).",
    )

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on.")
    root_path: str = Field(
        "", description="Path prefix under which a proxy serves the API, for example `/lab`."
    )
    auth_provider: str | None = Field(
        None,
        description="`none`, `apikey`, or the name of an entry point in `script_runner.auth`. "
        "Required by `api`; only `serve` on loopback defaults to `none`.",
    )
    auth_apikeys_file: Path | None = Field(
        None, description="The file of hashed keys that `script-runner apikey` writes."
    )

    max_body_bytes: Positive = Field(MIB, description="Largest JSON body of a request.")
    max_upload_bytes: Positive = Field(
        5 * GIB, description="Largest multipart request, files included."
    )
    max_queued: Positive = Field(
        1_000_000, description="Tasks that may wait; a further one gets 503 `queue_full`."
    )
    max_wait_seconds: Seconds = Field(
        60.0, description="Longest wait that `Prefer: wait=N` is granted."
    )
    idempotency_seconds: Positive = Field(
        86_400, description="How long an Idempotency-Key is remembered."
    )
    inline_attachment_bytes: Positive = Field(
        MIB,
        description="`attachments` of GET /task/{id} holds, in base64, those up to this size; "
        "every one is linked.",
    )
    inline_result_bytes: Positive = Field(
        8 * MIB,
        description="`results` of GET /task/{id} holds the rows of result sets up to this size "
        "in sum; every one is linked.",
    )

    worker_slots: Positive = Field(4, description="Scripts one worker runs at once.")
    drain_grace_seconds: Seconds = Field(
        30.0, description="After SIGTERM, how long running scripts may go on."
    )
    stop_grace_seconds: Seconds = Field(
        5.0, description="Time between SIGTERM and SIGKILL when a script is stopped."
    )
    storage_patience_seconds: Seconds = Field(
        120.0,
        description="How long a worker tries to keep results while the artifact store is away; "
        "then the attempt is `errored`.",
    )
    rundir_base: Path = Field(
        Path("/tmp/script-runner"),  # noqa: S108 - made 0700 and checked for its owner
        description="Where rundirs are made, unless config.json has `command_rundir`.",
    )
    script_env: str = Field(
        "PATH,HOME,LANG,LANGUAGE,LC_ALL,LC_CTYPE,TZ,TMPDIR,R_LIBS,R_LIBS_USER,R_HOME,PYTHONPATH,"
        "VIRTUAL_ENV,CONDA_PREFIX,LD_LIBRARY_PATH",
        description="Comma-separated variables of the worker that a script may see.",
    )
    max_output_bytes: Positive = Field(
        GIB, description="Most bytes a script may write to stdout, or to stderr."
    )
    max_result_bytes: Positive = Field(
        10 * GIB, description="Largest file read as a csv, tsv or jsonl result."
    )
    max_json_result_bytes: Positive = Field(
        16 * MIB, description="Largest `json` result: one document is held in memory."
    )
    max_attachment_bytes: Positive = Field(10 * GIB, description="Largest attachment.")
    max_attachments: Positive = Field(1000, description="Most attachments of one task.")


#: Variables of 0.18 that still work, when the new one is not set.
OLD_NAMES = {"REDIS_URL": "CELERY_BROKER_URL"}


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from *environ*; raise ConfigError naming every bad variable."""
    values: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = name.upper()
        text = environ.get(variable) or environ.get(OLD_NAMES.get(variable, ""), "")
        if text:
            values[name] = text
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = [
            Problem(str(item["loc"][0]).upper(), item["msg"])
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError(problems) from None
