"""What every part of the ScriptRunner resource is made of: its base, its rules, its small types.

A :class:`Rule` stands once and is said in two languages: CEL, which the API
server applies before anything is stored, and Python, which the operator applies
to what it is given (an API server with an older CRD may have let more through).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

#: The type of pydantic's error when rules are broken; its context holds ``problems``.
BROKEN_RULES = "broken_rules"


@dataclass(frozen=True)
class Rule:
    """One condition across the fields of a part.

    *field* is where it is reported, relative to the part; empty for the part
    itself. A rule that compares with the stored object (``oldSelf``) has no
    *holds*: only the API server knows the old one.
    """

    field: str
    message: str
    cel: str
    holds: Callable[[Any], bool] | None = None

    def manifest(self) -> dict[str, str]:
        """Return the rule as an entry of ``x-kubernetes-validations``."""
        path = {"fieldPath": f".{self.field}"} if self.field else {}
        return {"rule": self.cel, "message": self.message, **path}


def broken_rules(problems: Sequence[tuple[str, str]]) -> PydanticCustomError:
    """Return pydantic's error for several *problems* at once: (field below, message)."""
    text = "; ".join(f"{field}: {message}" if field else message for field, message in problems)
    return PydanticCustomError(BROKEN_RULES, "{text}", {"text": text, "problems": problems})


class Part(BaseModel):
    """The base of every part of the resource: camelCase in YAML, nothing unknown, immutable."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        broken = [
            (rule.field, rule.message)
            for rule in self.RULES
            if rule.holds is not None and not rule.holds(self)
        ]
        if broken:
            raise broken_rules(broken)
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        found = handler(schema)
        if cls.RULES:
            part = handler.resolve_ref_schema(found)
            part["x-kubernetes-validations"] = [rule.manifest() for rule in cls.RULES]
        return found


def exactly_one(first: str, second: str) -> Rule:
    """Return the rule that one of two fields is given, not none and not both."""
    attributes = [_snake(name) for name in (first, second)]
    return Rule(
        "",
        f"exactly one of {first} and {second} must be given",
        f"has(self.{first}) != has(self.{second})",
        lambda part: sum(getattr(part, name) is not None for name in attributes) == 1,
    )


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
#: The name of an object in the namespace of the resource.
ObjectName = Annotated[str, Field(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=253)]
#: A key of a Secret or ConfigMap.
ObjectKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
#: A path below which something is served; the root is empty.
_PATH = r"(/[A-Za-z0-9._~-]+)"
RootPath = Annotated[str, Field(pattern=f"^{_PATH}*$", max_length=200)]
IngressPath = Annotated[str, Field(pattern=f"^(/|{_PATH}+)$", max_length=200)]
HttpsUrl = Annotated[str, Field(pattern=r"^https://[^\s/]+(/\S*)?$", max_length=2048)]

_UNITS = {
    unit: Decimal(factor)
    for unit, factor in (
        *(("", "1"), ("n", "1e-9"), ("u", "1e-6"), ("m", "1e-3"), ("k", "1e3")),
        *((unit, f"1e{3 * power}") for power, unit in enumerate("MGTPE", 2)),
        *((f"{unit}i", str(1024**power)) for power, unit in enumerate("KMGTPE", 1)),
    )
}


def quantity_value(quantity: str | int) -> Decimal:
    """Return the number that a quantity of Kubernetes stands for: ``500m`` is 0.5."""
    text = str(quantity)
    number = text.rstrip("inumkKMGTPE")
    # What ends in a digit has no unit, though it may have an exponent.
    return Decimal(number) * _UNITS[text[len(number) :]]


def number_as_text(value: Any) -> Any:
    """Return a whole number as text: YAML needs no quotes where digits are meant."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def _quantity(pattern: str) -> Any:
    schema = {"x-kubernetes-int-or-string": True, "pattern": pattern, "maxLength": 32}
    return (
        BeforeValidator(number_as_text),
        Field(pattern=pattern, max_length=32),
        WithJsonSchema(schema),
    )


#: As Kubernetes writes them, without a sign; a whole number needs no quotes.
_QUANTITY = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
_SIZE = r"^[1-9][0-9]*(\.[0-9]+)?([KMGTPE]i|[kMGTPE])?$"

Quantity = Annotated[str, *_quantity(_QUANTITY)]
#: Bytes of a volume: more than nothing.
Size = Annotated[str, *_quantity(_SIZE)]
