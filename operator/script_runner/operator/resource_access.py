"""The parts of a spec that say how the API is reached, and by whom."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from script_runner.operator.resource_parts import ContainerResources
from script_runner.operator.resource_types import (
    HttpsUrl,
    IngressPath,
    ObjectKey,
    ObjectName,
    Part,
    RootPath,
    Rule,
)

AuthName = Literal["none", "apikey", "oidc", "auth0"]

MAX_API_REPLICAS = 20


class ApiKeysSecret(Part):
    """The file of API keys in a Secret."""

    name: ObjectName = Field(description="The name of a Secret in this namespace.")
    key: ObjectKey = Field(
        default="keys.json",
        description="The key that holds the file that `script-runner apikey` writes.",
    )


class Oidc(Part):
    """Tokens of an OpenID Connect issuer."""

    issuer: HttpsUrl = Field(
        description="The `iss` of tokens, exactly; keys are found through its discovery."
    )
    audience: str = Field(
        min_length=1, max_length=500, description="What `aud` of a token must contain."
    )
    jwks_url: HttpsUrl | None = Field(
        default=None, description="Where the issuer's keys are, when it has no discovery."
    )


class Auth0(Part):
    """Tokens of an Auth0 tenant, as in 0.18."""

    domain: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
        max_length=253,
        description="The domain of the tenant, such as `lab.eu.auth0.com`.",
    )
    audience: str = Field(min_length=1, max_length=500, description="The identifier of the API.")


def _belongs(provider: str, field: str, attribute: str) -> tuple[Rule, Rule]:
    has_provider = f"'{provider}' in self.provider"
    return (
        Rule(
            field,
            f"provider {provider} needs {field}",
            f"!({has_provider}) || has(self.{field})",
            lambda auth: provider not in auth.provider or getattr(auth, attribute) is not None,
        ),
        Rule(
            field,
            f"{field} has no effect: add {provider} to provider, or remove {field}",
            f"{has_provider} || !has(self.{field})",
            lambda auth: provider in auth.provider or getattr(auth, attribute) is None,
        ),
    )


class Auth(Part):
    """Who may call the API."""

    provider: tuple[AuthName, ...] = Field(
        min_length=1,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="How callers are known: `apikey`, `oidc`, `auth0`, or several of them. `none` "
        "lets everybody in who can reach the API, and stands alone.",
    )
    apikeys_secret: ApiKeysSecret | None = Field(
        default=None, description="Where the API keys are. Required with `apikey`."
    )
    oidc: Oidc | None = Field(default=None, description="The issuer. Required with `oidc`.")
    auth0: Auth0 | None = Field(default=None, description="The tenant. Required with `auth0`.")
    owner_claim: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="The claim that names the owner of a task; a JSON pointer when it begins with "
        "`/`. Otherwise `sub`.",
    )
    scope_claim: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="The claim with the scopes, a text or a list; a JSON pointer when it begins "
        "with `/`. Otherwise `scope`, with `auth0` `permissions`.",
    )
    scope_map: dict[str, Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default={},
        max_length=100,
        description="The issuer's words and the scopes they give, such as "
        "`lab: task:submit task:read`. Other words then give none; `*` stands for every caller.",
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "provider",
            "none stands alone: remove it, or remove the others",
            "!('none' in self.provider) || size(self.provider) == 1",
            lambda auth: "none" not in auth.provider or len(auth.provider) == 1,
        ),
        *_belongs("apikey", "apikeysSecret", "apikeys_secret"),
        *_belongs("oidc", "oidc", "oidc"),
        *_belongs("auth0", "auth0", "auth0"),
    )


class Api(Part):
    """The HTTP API."""

    replicas: int = Field(
        default=1, ge=1, le=MAX_API_REPLICAS, description="How many pods serve the API."
    )
    resources: ContainerResources = Field(
        default=ContainerResources(), description="What each pod of the API asks for and may use."
    )
    root_path: RootPath = Field(
        default="",
        description="The path below which a proxy serves the API, for example `/lab`; links in "
        "answers begin with it.",
    )
    auth: Auth = Field(description="Who may call the API; there is no default.")


class IngressTls(Part):
    """TLS at the ingress."""

    secret_name: ObjectName = Field(
        description="The Secret with the certificate, of type kubernetes.io/tls. It may be one "
        "that a certificate manager makes."
    )


def _has_no_snippet(ingress: Any) -> bool:
    return not any("snippet" in key for key in ingress.annotations)


def _leaves_ours(ingress: Any) -> bool:
    return not any("script-runner.io/" in key for key in ingress.annotations)


class Ingress(Part):
    """How the API is reached from outside the cluster."""

    host: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        max_length=253,
        description="The host name, in lower case; no wildcard.",
    )
    path: IngressPath = Field(
        default="/",
        description="The path below which the host serves the API: `/`, or what `api.rootPath` "
        "says.",
    )
    class_name: ObjectName | None = Field(
        default=None,
        description="The IngressClass. Otherwise the cluster's default.",
    )
    tls: IngressTls | None = Field(
        default=None, description="TLS for the host. Without it the ingress speaks plain HTTP."
    )
    annotations: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default={},
        max_length=30,
        description="Annotations of the Ingress, for its controller. Those with `snippet` in their "
        "name are refused: they are configuration of the controller, which all tenants share.",
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "annotations",
            "an annotation with snippet in its name puts text into the configuration of an ingress "
            "controller that others share; remove it, or make an Ingress of your own",
            "!has(self.annotations) || self.annotations.all(key, !key.contains('snippet'))",
            _has_no_snippet,
        ),
        Rule(
            "annotations",
            "annotations of script-runner.io belong to the operator; remove them",
            "!has(self.annotations) || "
            "self.annotations.all(key, !key.contains('script-runner.io/'))",
            _leaves_ours,
        ),
    )
