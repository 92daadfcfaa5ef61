"""What every model of the file shares: strictness, marks, and field types that speak in units."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from clawsim.scenario.errors import Mark, Problems, did_you_mean
from clawsim.scenario.source import YamlList, YamlMap
from clawsim.scenario.units import DURATION_PATTERN, PERCENT_PATTERN, duration_us, share

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"
NOWHERE = Mark("scenario")


class Strict(BaseModel):
    """A mapping of the file: no unknown keys, no coercion, and it remembers where it was written."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    _source: YamlMap | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _remember_source(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Report unknown keys with a suggestion, and go on with the known ones to find what else is wrong."""
        if not isinstance(data, YamlMap) or info.context is None:
            return handler(data)
        model = handler({key: value for key, value in data.items() if cls._knows(key, data, info.context)})
        model._source = data
        return model

    @classmethod
    def _knows(cls, key: str, data: YamlMap, problems: Problems) -> bool:
        known = cls.keys()
        if key not in known:
            problems.add(data.keys_at[key], f"unknown key '{key}'{did_you_mean(key, known)}")
        return key in known

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that the file may use, in the order of the model."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @property
    def label(self) -> str:
        """The name that the mapping goes by, given or generated; empty where it has none."""
        return self._source.label if self._source else ""

    def mark(self, key: str | None = None, item: int | None = None) -> Mark:
        """Where ``key``'s value (its ``item``) is written; the mapping itself where the file leaves the key out."""
        if self._source is None:
            return NOWHERE
        value = self._source.get(key) if key else None
        if item is not None and isinstance(value, YamlList):
            return value.items_at[item]
        return self._source.values_at.get(key or "", self._source.mark)


def _said(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    """A parser whose ValueError becomes a message of the scenario, without pydantic's preamble."""

    def parsed(value: object) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise PydanticCustomError("quantity", "{said}", {"said": str(error)}) from error

    return parsed


def _text_schema(pattern: str, description: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "pattern": pattern, "description": description, "examples": list(examples)}
    )


Duration = Annotated[
    int,
    BeforeValidator(_said(duration_us)),
    _text_schema(DURATION_PATTERN, "A number and a unit: us, ms, s, min, h, d", "90 s", "10 min", "1.5 h"),
]
"""Microseconds, written as a number and a unit."""

Share = Annotated[float, BeforeValidator(_said(share)), _text_schema(PERCENT_PATTERN, "A share in %", "20 %")]
"""A fraction (0..1), written in percent."""

Id = Annotated[str, Field(pattern=ID_PATTERN, description="Lower-case letters, digits, hyphens; at most 32")]

LARGEST = 1e12
"""No physical quantity of a sensor is larger, and a reading of it still fits the wire at full resolution."""
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]


def _flag(value: object) -> object:
    return {"yes": True, "no": False, "on": True, "off": False}.get(value, value) if isinstance(value, str) else value


Flag = Annotated[
    bool, BeforeValidator(_flag), WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["yes", "no", "on", "off"]}]})
]
"""A boolean, also as yes, no, on, off (which YAML 1.2 reads as text)."""


def _sensor_value(value: object) -> bool | int | float | str:
    if isinstance(value, str) and len(value) <= 64:
        return value
    if isinstance(value, bool | int | float) and abs(value) <= LARGEST:
        return value
    raise PydanticCustomError("value", "must be a number, true, false or a text of at most 64 characters")


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise PydanticCustomError("value", "must be a number, true, false, null or a text")


Value = Annotated[
    bool | int | float | str,
    PlainValidator(_sensor_value),
    WithJsonSchema({"type": ["boolean", "number", "string"], "description": "In the metric's unit"}),
]
"""What a sensor can read: a number, a boolean or a short text."""

Scalar = Annotated[
    bool | int | float | str | None,
    PlainValidator(_scalar),
    WithJsonSchema({"type": ["boolean", "number", "string", "null"]}),
]
"""What a field of an event can be compared with."""


def by_key(what: str, keys: Iterable[str]) -> Discriminator:
    """Tells the variants of an entry apart by the one key that only it has, used as its tag with ``:`` before it."""
    names = list(keys)

    def tag(data: Any) -> str | None:
        present = [name for name in names if isinstance(data, dict) and name in data]
        return f":{present[0]}" if len(present) == 1 else None

    return Discriminator(
        tag,
        custom_error_type="variant",
        custom_error_message=f"{what} needs exactly one of: {', '.join(names)}",
    )


def text_or_mapping() -> Discriminator:
    """Tells a text (tag ``=text``) from a mapping (tag ``=mapping``)."""
    return Discriminator(lambda data: "=text" if isinstance(data, str) else "=mapping")
