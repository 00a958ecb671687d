"""Settings: read once from the environment into a frozen value.

Built by :func:`load_settings`, never at import. Each field is documented in
docs/reference/settings.md, which is generated from here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from script_runner.core.errors import ConfigError, Problem
from script_runner.core.lease_owner import NAME_PATTERN

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]

#: What a header carries without doubt, and nobody guesses.
_TOKEN = re.compile(r"[!-~]{16,}")


def _check_token(token: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(token.get_secret_value()):
        raise PydanticCustomError("token", "must be 16 or more visible ASCII characters")
    return token


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
        description="`strict` answers 202 only when Redis has the task on disk. Needs Redis 7.2 "
        "or later with `appendonly yes`; the API checks both when it starts.",
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)
    ] = Field("info", description="How much the API and the workers write to stderr.")

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on.")
    root_path: str = Field(
        "", description="Path prefix under which a proxy serves the API, for example `/lab`."
    )
    auth_provider: str | None = Field(
        None,
        description="`none`, `apikey`, `oidc`, `auth0`, or the name of an entry point in "
        "`script_runner.auth`; several with commas between, such as `apikey,oidc`. Required by "
        "`api`; only `serve` on loopback defaults to `none`.",
    )
    auth_apikeys_file: Path | None = Field(
        None, description="The file of hashed keys that `script-runner apikey` writes."
    )
    oidc_issuer: str = Field(
        "", description="The `iss` of tokens, exactly; keys are found through its discovery."
    )
    oidc_audience: str = Field("", description="What `aud` of a token must contain.")
    oidc_jwks_url: str = Field(
        "", description="Where the issuer's keys are, when it has no discovery."
    )
    auth0_domain: str = Field("", description="As in 0.18, for example `lab.eu.auth0.com`.")
    auth0_api_audience: str = Field("", description="As in 0.18: the identifier of the API.")
    auth_algorithms: str = Field(
        "RS256,ES256",
        description="Comma-separated signature algorithms of tokens: RS, PS and ES with 256, "
        "384 or 512.",
    )
    auth_token_type: str = Field(
        "",
        pattern=r"^[A-Za-z0-9+.-]*$",
        description="The only `typ` of tokens, for example `at+jwt` (RFC 9068). Otherwise "
        "`JWT`, `at+jwt` and none.",
    )
    auth_leeway_seconds: float = Field(
        30.0, ge=0, le=60, description="How far the clocks of issuer and API may be apart."
    )
    auth_owner_claim: str = Field(
        "sub",
        min_length=1,
        description="The claim that names the owner of a task; a JSON pointer when it begins "
        "with `/`.",
    )
    auth_scope_claim: str = Field(
        "",
        description="The claim with the scopes, a text or a list; a JSON pointer when it begins "
        "with `/`. Otherwise `scope`, with `auth0` `permissions`.",
    )
    auth_scope_map: str = Field(
        "",
        description='JSON: the issuer\'s words and the scopes they give, such as `{"lab": '
        '"task:submit task:read"}`. Other words then give none; `*` stands for every caller.',
    )
    auth_jwks_refresh_seconds: Seconds = Field(
        600.0, description="How often the issuer's keys are fetched, in the background."
    )
    auth_jwks_max_age_seconds: Seconds = Field(
        86_400.0, description="How long keys stay good while the issuer cannot be reached."
    )
    auth_jwks_refetch_seconds: Seconds = Field(
        10.0,
        description="A token with an unknown key brings the next fetch forward, at most once in "
        "this time.",
    )
    audit_log: str = Field(
        "", description="A file for one JSON line per event, or `-` for stderr; none when empty."
    )
    trusted_proxies: str = Field(
        "",
        description="Comma-separated addresses and networks whose X-Forwarded-For is believed "
        "in the audit log.",
    )

    accept_tasks: bool = Field(
        True,
        description="`false`: a new task gets 503 `closed`; all else goes on, tasks that were "
        "accepted included.",
    )
    operator_token: Annotated[SecretStr, AfterValidator(_check_token)] = Field(
        SecretStr(""),
        description="The bearer token of the Kubernetes operator, 16 characters or more, which "
        "asks the API for the demand. Without it those routes do not exist.",
    )

    max_body_bytes: Positive = Field(MIB, description="Largest JSON body of a request.")
    max_upload_bytes: Positive = Field(
        5 * GIB, description="Largest multipart request, files included."
    )
    max_queued: Positive = Field(
        1_000_000, description="Tasks that may wait; a further one gets 503 `queue_full`."
    )
    max_submits_per_minute: Positive | None = Field(
        None, description="Tasks one caller may submit in a minute; then 429. Default: no limit."
    )
    max_active_per_owner: Positive | None = Field(
        None,
        description="Queued and running tasks one caller may have at once; then 429. "
        "Default: no limit.",
    )
    max_stored_bytes_per_owner: Positive | None = Field(
        None,
        description="Bytes of uploads, results, attachments and output kept for one caller; once "
        "reached, 429 until retention frees some. Default: no limit.",
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

    worker_name: str = Field(
        "",
        pattern=NAME_PATTERN,
        description="The name of this worker for the operator and the log, on Kubernetes that of "
        "its pod: `a`-`z`, `0`-`9`, `.` and `-`.",
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
