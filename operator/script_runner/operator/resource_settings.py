"""Which settings a ScriptRunner may choose, and which variables it may not set.

The one place where that is decided; the schema of the resource is made from it.
A setting added to ``core.settings`` can be chosen as soon as it exists, unless
it is named here.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from script_runner.core.settings import OLD_NAMES, Settings
from script_runner.core.spelling import suggestion
from script_runner.operator.resource_types import broken_rules, number_as_text

#: Fields of Settings that the operator sets itself, from other parts of the resource.
OPERATOR_SETS = frozenset(
    {
        *("config", "redis_url", "redis_namespace", "artifacts_url", "rundir_base"),
        *("host", "port", "root_path", "operator_token", "accept_tasks", "worker_name"),
        *("worker_slots", "drain_grace_seconds", "stop_grace_seconds"),
        *("auth_provider", "auth_apikeys_file", "auth_owner_claim", "auth_scope_claim"),
        *("auth_scope_map", "oidc_issuer", "oidc_audience", "oidc_jwks_url"),
        *("auth0_domain", "auth0_api_audience"),
    }
)

#: Variable -> field of Settings, for every setting that a resource may choose.
CHOOSABLE: Mapping[str, str] = {
    field.upper(): field for field in Settings.model_fields if field not in OPERATOR_SETS
}

#: Variables that ``env`` may not set: they would undo what the operator, or ``settings``, says.
RESERVED_VARIABLES = tuple(
    sorted(
        {field.upper() for field in (*Settings.model_fields, *OPERATOR_SETS)}
        | {*OLD_NAMES.values(), "CELERY_RESULT_BACKEND", "RUNDIR", "HOME"}
    )
)
#: And all that begin so: authentication, and the credentials of the artifact store.
RESERVED_PREFIXES = ("AUTH_", "AUTH0_", "OIDC_", "AWS_", "REDIS_")


def is_reserved(variable: str) -> bool:
    """Tell if *variable* belongs to the service, so that ``env`` may not set it."""
    return variable in RESERVED_VARIABLES or variable.startswith(RESERVED_PREFIXES)


def _fault(variable: str, value: str) -> str | None:
    """Return what is wrong with a setting, or None."""
    if variable not in CHOOSABLE:
        meant = suggestion(variable, CHOOSABLE)
        hint = f"; did you mean {meant}?" if meant else "; remove it"
        return f"is not a setting that a resource can choose{hint}"
    if not value:
        return None  # as in the environment: not set
    try:
        Settings.model_validate({CHOOSABLE[variable]: value})
    except ValidationError as error:
        return str(error.errors(include_input=False, include_url=False)[0]["msg"])
    return None


def _check(settings: dict[str, str]) -> dict[str, str]:
    faults = [(variable, _fault(variable, value)) for variable, value in settings.items()]
    broken = [(variable, fault) for variable, fault in faults if fault is not None]
    if broken:
        raise broken_rules(broken)
    return settings


class _OneByOne:
    """Makes the schema of ``spec.settings``: one described property for each setting."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        known = Settings.model_json_schema()["properties"]
        return {
            "type": "object",
            "properties": {name: _property(known[field]) for name, field in CHOOSABLE.items()},
        }


def _property(setting: dict[str, Any]) -> dict[str, Any]:
    description = setting["description"]
    default = setting.get("default")
    if default not in (None, "") and "Default" not in description:
        shown = f"{default:g}" if isinstance(default, float) else default
        description += f" Default: {shown}."
    found: dict[str, Any] = {"description": description}
    kinds = {part.get("type") for part in setting.get("anyOf", [setting])}
    if kinds & {"integer", "number"}:
        pattern = "^[0-9]*$" if "integer" in kinds else r"^([0-9]+(\.[0-9]+)?)?$"
        return {**found, "x-kubernetes-int-or-string": True, "pattern": pattern, "maxLength": 32}
    rules: dict[str, Any] = {key: setting[key] for key in ("enum", "pattern") if key in setting}
    return {**found, "type": "string", "maxLength": 4096, **rules}


Value = Annotated[str, BeforeValidator(number_as_text)]
#: The type of ``spec.settings``: variable -> value.
ChosenSettings = Annotated[dict[str, Value], AfterValidator(_check), _OneByOne()]
