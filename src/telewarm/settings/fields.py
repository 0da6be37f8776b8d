"""Declaration of a setting, the single source of `telewarm env`, `docs/settings.md` and error messages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import platformdirs
from pydantic import Field, JsonValue, SecretStr
from pydantic.fields import FieldInfo


class Group(StrEnum):
    """Headings of the settings."""

    GENERAL = "General"
    DATABASE = "Database"
    STORE = "Store"
    TELEGRAM = "Telegram"
    WARMUP = "Warm-up"
    RETRIES = "Retries"
    FLOODS = "Floods"


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvVar:
    """One setting as shown to people. `default`: the effect of leaving it out; `unit`: may be empty.

    `example` is empty for secrets: the advice says how to make one.
    """

    name: str
    group: Group
    default: str
    unit: str
    advice: str
    secret: bool
    example: str


def setting(
    group: Group,
    advice: str,
    *,
    default: object,
    example: str,
    unit: str = "",
    default_text: str = "",
    **bounds: Any,  # noqa: ANN401 (pydantic's ge, le, pattern, …)
) -> Any:  # noqa: ANN401 (as pydantic's Field: the field's annotation is what counts)
    """Declare a setting; a function as the default is called for each instance.

    `default_text`: the default in words, where its value is not helpful.
    """
    about: dict[str, JsonValue] = {"group": group, "unit": unit, "example": example, "otherwise": default_text}
    if callable(default):
        return Field(default_factory=default, description=advice, json_schema_extra=about, **bounds)
    return Field(default, description=advice, json_schema_extra=about, **bounds)


def data_home() -> Path:
    """Return the data folder. Not root's own home, which the embedded database's user may not read."""
    return Path("/var/lib/telewarm") if os.geteuid() == 0 else platformdirs.user_data_path("telewarm")


def variables_of(fields: Mapping[str, FieldInfo]) -> list[EnvVar]:
    """Return the settings as shown to people."""
    return [_variable(name, field) for name, field in fields.items()]


def _variable(name: str, field: FieldInfo) -> EnvVar:
    about = field.json_schema_extra
    if not isinstance(about, dict):
        raise TypeError(f"{name} is not declared with setting()")
    secret = SecretStr in {field.annotation, *get_args(field.annotation)}
    return EnvVar(
        name=name.upper(),
        group=Group(str(about["group"])),
        default=str(about["otherwise"]) or _format_default(field.default),
        unit=str(about["unit"]),
        advice=field.description or "",
        secret=secret,
        example=str(about["example"]),
    )


def _format_default(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
