"""Remedies of errors, in the terms of the interface through which a person reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Interface(StrEnum):
    """Interface through which a person reads an error."""

    LIBRARY = "library"
    CLI = "cli"
    API = "api"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cure:
    """Remedy in the terms of each interface: a call, a command, a route."""

    library: str
    cli: str
    api: str
