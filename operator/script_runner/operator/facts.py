"""What the manifests of a ScriptRunner depend on, beside the resource itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """Found out by the operator before it builds manifests."""

    config_text: str  #: config.json as the pods read it
    config_hash: str  #: hex digest of config_text
    config_timeout: float | None  #: `timeout_seconds` of the config
    secrets_hash: str  #: changes with every Secret and ConfigMap that is only read at start
    password_hash: str  #: changes with the internal Secret, where the password of Redis is
    redis_image: str  #: setting of the operator
    is_accepting: bool  #: False while the resource is deleted: no further task
