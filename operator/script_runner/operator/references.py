"""What a ScriptRunner refers to: Secrets and ConfigMaps that others made. (pure)"""

from collections.abc import Iterator
from dataclasses import dataclass

from script_runner.operator.resource import ScriptRunner


@dataclass(frozen=True)
class Reference:
    """An object, the key that is read of it, and the field of the spec that says so."""

    kind: str
    name: str
    key: str
    where: str
    is_optional: bool = False

    def __str__(self) -> str:
        key = f" with the key {self.key}" if self.key else ""
        return f"{self.where}: there is no {self.kind} {self.name}{key} in this namespace"


def references(runner: ScriptRunner) -> Iterator[Reference]:
    """Give every reference, in the order of the spec."""
    spec = runner.spec
    if spec.config_from is not None:
        source = spec.config_from
        yield Reference("ConfigMap", source.config_map, source.key, "spec.configFrom")
    if spec.api.auth.apikeys_secret is not None:
        keys = spec.api.auth.apikeys_secret
        yield Reference("Secret", keys.name, keys.key, "spec.api.auth.apikeysSecret")
    if spec.redis.existing_secret is not None:
        redis = spec.redis.existing_secret
        yield Reference("Secret", redis.name, redis.key, "spec.redis.existingSecret")
    if spec.artifacts.s3 is not None and spec.artifacts.s3.credentials_secret is not None:
        where = "spec.artifacts.s3.credentialsSecret"
        yield Reference("Secret", spec.artifacts.s3.credentials_secret, "AWS_ACCESS_KEY_ID", where)
    for variable in spec.env:
        if variable.value_from is None:
            continue
        for kind, item in (
            ("Secret", variable.value_from.secret_key_ref),
            ("ConfigMap", variable.value_from.config_map_key_ref),
        ):
            if item is not None:
                where = f"spec.env[{variable.name}]"
                yield Reference(kind, item.name, item.key, where, bool(item.optional))
