"""Types of connections and pools, and the loader of SQL files."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Executor: TypeAlias = "Pool | Connection"


@cache
def query(name: str) -> str:
    """Return the text of `queries/<name>.sql`."""
    return files(__package__).joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")


@cache
def created_names(what: Literal["TABLE", "FUNCTION"]) -> tuple[str, ...]:
    """Return the names of the tables or functions that the migrations create, in order."""
    folder = files(__package__).joinpath("migrations", "versions")
    scripts = sorted((one for one in folder.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    text = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
    return tuple(dict.fromkeys(re.findall(rf"^CREATE (?:OR REPLACE )?{what} (\w+)", text, re.MULTILINE)))
