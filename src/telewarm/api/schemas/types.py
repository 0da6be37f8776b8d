"""Types of parameters: ids within the range of the database, strict booleans."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, Strict

from telewarm.bots.chat_names import CHAT_ID_PATTERN, NAME_PATTERN

MAX_BIGINT = 2**63 - 1


def _reject_bool(value: object) -> object:
    """Reject booleans: Pydantic would accept `true` as 1."""
    if value is True or value is False:
        raise ValueError("must be a number, not true or false")
    return value


RejectBool = BeforeValidator(_reject_bool)  # goes behind the bounds: the OpenAPI does not have those that follow it
StrictBool = Annotated[bool, Strict()]  # 0 is not false, and "no" is neither
ChatIdParam = Annotated[int, Field(ge=-MAX_BIGINT, le=MAX_BIGINT), RejectBool]


def _chat_or_name(value: object) -> int | str:
    if isinstance(value, float) and value.is_integer():  # 17.0 is 17, to JSON
        value = int(value)
    if isinstance(value, str) and CHAT_ID_PATTERN.fullmatch(value):
        value = int(value)
    if type(value) is int and -MAX_BIGINT <= value <= MAX_BIGINT:
        return value
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return value
    raise ValueError("must be a chat id, or @name of a public channel or group")


ChatNameText = Annotated[str, Field(pattern=r"^@[A-Za-z][A-Za-z0-9_]{3,31}$")]
ChatOrName = Annotated[int | str, PlainValidator(_chat_or_name, json_schema_input_type=ChatIdParam | ChatNameText)]
RowIdParam = Annotated[int, Field(ge=1, le=MAX_BIGINT), RejectBool]
