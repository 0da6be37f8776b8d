"""Types of connections and pools, and the loader of SQL files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Executor: TypeAlias = "Pool | Connection"


@cache
def query(name: str) -> str:
    """The text of `queries/<name>.sql`."""
    return files(__package__).joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
