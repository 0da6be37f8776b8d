"""Numbers in requests, as far as the database holds them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

LARGEST = 2**63 - 1


def _no_bool(said: object) -> object:
    """To Python `true` is the number 1, and chat 1 is somebody's."""
    if said is True or said is False:
        raise ValueError("must be a whole number, not true or false")
    return said


Whole = Annotated[int, BeforeValidator(_no_bool, json_schema_input_type=int)]
