"""Numbers in requests, as far as the database holds them, and what is true or false, which is none."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, Strict

LARGEST = 2**63 - 1


def _no_bool(said: object) -> object:
    """To Python `true` is the number 1, and chat 1 is somebody's."""
    if said is True or said is False:
        raise ValueError("must be a number, not true or false")
    return said


NotBool = BeforeValidator(_no_bool)  # goes behind the bounds: the OpenAPI does not have those that follow it
Flag = Annotated[bool, Strict()]  # 0 is not false, and "no" is neither
AnyChat = Annotated[int, Field(ge=-LARGEST, le=LARGEST), NotBool]
AnyId = Annotated[int, Field(ge=1, le=LARGEST), NotBool]
