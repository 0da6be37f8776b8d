"""Types of parameters: ids within the range of the database, strict booleans."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, Strict

from telewarm.bots.chat_names import NAME, NUMBER

LARGEST = 2**63 - 1


def _no_bool(said: object) -> object:
    """To Python `true` is the number 1, and chat 1 is somebody's."""
    if said is True or said is False:
        raise ValueError("must be a number, not true or false")
    return said


RejectBool = BeforeValidator(_no_bool)  # goes behind the bounds: the OpenAPI does not have those that follow it
StrictBool = Annotated[bool, Strict()]  # 0 is not false, and "no" is neither
ChatIdParam = Annotated[int, Field(ge=-LARGEST, le=LARGEST), RejectBool]


def _chat_or_name(said: object) -> int | str:
    if isinstance(said, float) and said.is_integer():  # 17.0 is 17, to JSON
        said = int(said)
    if isinstance(said, str) and NUMBER.fullmatch(said):
        said = int(said)
    if type(said) is int and -LARGEST <= said <= LARGEST:
        return said
    if isinstance(said, str) and NAME.fullmatch(said):
        return said
    raise ValueError("must be a chat id, or @name of a public channel or group")


ByName = Annotated[str, Field(pattern=r"^@[A-Za-z][A-Za-z0-9_]{3,31}$")]
ChatOrName = Annotated[int | str, PlainValidator(_chat_or_name, json_schema_input_type=ChatIdParam | ByName)]
RowIdParam = Annotated[int, Field(ge=1, le=LARGEST), RejectBool]
