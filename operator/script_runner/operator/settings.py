"""Settings of the operator: read once from the environment into a frozen value.

Built by :func:`load_operator_settings`, never at import. What belongs to one ScriptRunner is in
its resource; here is what differs between two installations of the operator.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from script_runner.core.errors import ConfigError, Problem


class OperatorSettings(BaseModel):
    """Everything that differs between two installations of the operator.

    The environment variable of a field is its name in capitals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespaces: str = Field(
        "",
        description="Comma-separated namespaces whose ScriptRunners are served. All, when empty.",
    )
    redis_image: str = Field(
        "script-runner",
        min_length=1,
        description="The image of a managed Redis: ours, or another with `redis-server` on PATH.",
    )
    api_url_template: str = Field(
        "http://{name}.{namespace}.svc",
        min_length=1,
        description="How the operator reaches the API of a ScriptRunner, without its root path.",
    )
    resync_seconds: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="How often everything is listed anew, whatever the watches said.",
    )
    probe_host: str = Field(
        "0.0.0.0",  # noqa: S104 - the kubelet and Prometheus come from other addresses
        description="Address of `/livez`, `/readyz` and `/metrics`.",
    )
    probe_port: int = Field(8080, ge=0, le=65535, description="Port of the same.")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)
    ] = Field("info", description="How much the operator writes to stderr.")

    @field_validator("api_url_template")
    @classmethod
    def _knows_its_fields(cls, template: str) -> str:
        try:
            template.format(name="a", namespace="b")
        except (KeyError, IndexError, ValueError):
            raise ValueError("may name {name} and {namespace} alone") from None
        return template.rstrip("/")

    @property
    def served_namespaces(self) -> tuple[str, ...]:
        """The namespaces that are served; none stands for all."""
        return tuple(
            dict.fromkeys(name.strip() for name in self.namespaces.split(",") if name.strip())
        )

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """What each kind is listed and watched for: namespaces, or None for the whole cluster."""
        return self.served_namespaces or (None,)


def load_operator_settings(environ: Mapping[str, str]) -> OperatorSettings:
    """Read the settings from *environ*; raise ConfigError naming every bad variable."""
    values = {
        name: text
        for name in OperatorSettings.model_fields
        if (text := environ.get(name.upper(), ""))
    }
    try:
        return OperatorSettings.model_validate(values)
    except ValidationError as error:
        problems = [
            Problem(str(item["loc"][0]).upper(), item["msg"])
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError(problems) from None
