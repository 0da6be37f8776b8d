"""`telewarm token …`: named API tokens, also while nothing serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from telewarm.cli.env import PIPE_WIDTH, read_settings
from telewarm.database import tokens
from telewarm.database.connection import Connection
from telewarm.database.embedded import served
from telewarm.database.migrate import migrate
from telewarm.database.pool import ROUND_TRIP, connect
from telewarm.database.tokens import ApiToken, Role
from telewarm.settings import Settings

HELP = (
    "Make, list, rotate and revoke named API tokens. Each has a role: `read` looks, `operate` sends, adds media and "
    "runs broadcasts too, `admin` may do all. A token is shown once; Telewarm keeps its hash. Processes that serve "
    "know of changes within moments."
)
GRACE = 300  # seconds

app = typer.Typer(help=HELP, no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name: letters, digits, `.`, `_` and `-`.", show_default=False)]


@app.command("create")
def create(
    name: Name,
    role: Annotated[Role, typer.Option(help="What it may do.", show_default=False)],
    expires_in_days: Annotated[
        float | None, typer.Option(min=0.001, max=3650, help="It opens nothing after that. [never expires]")
    ] = None,
) -> None:
    """Make a token and print it: alone on standard output, so that a script can keep it. It is never shown again."""
    lifetime = None if expires_in_days is None else timedelta(days=expires_in_days)
    made, secret = asyncio.run(_create(read_settings(), name, role, lifetime))
    _say(f"{made.name} may {made.role}, {_until(made.expires_at)}; send it as `Authorization: Bearer …`")
    typer.echo(secret)


@app.command("list")
def list_tokens() -> None:
    """Show every token that is not revoked: its role, when it expires, when it was last used. Never the token."""
    table = Table("name", "role", "created", "expires", "last used")
    for one in asyncio.run(_list(read_settings())):
        used = "never" if one.last_used_at is None else f"{one.last_used_at:%Y-%m-%d %H:%M}"
        table.add_row(one.name, one.role, f"{one.created_at:%Y-%m-%d}", _until(one.expires_at), used)
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table)


@app.command("rotate")
def rotate(
    name: Name,
    grace_s: Annotated[
        int, typer.Option(min=0, max=86_400, help="Seconds for which the old one goes on being good.")
    ] = GRACE,
) -> None:
    """Print a new secret for a token; the old one goes on for a while, so that nobody is shut out meanwhile."""
    made, secret = asyncio.run(_rotate(read_settings(), name, timedelta(seconds=grace_s)))
    _say(f"{made.name} has a new secret; the old one is good for {grace_s} s more")
    typer.echo(secret)


@app.command("revoke")
def revoke(name: Name) -> None:
    """Let a token open nothing any more, in every process, within moments. Its name is free again."""
    asyncio.run(_revoke(read_settings(), name))
    _say(f"{name} is revoked")


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Connection]:
    given = settings.database_url.get_secret_value() if settings.database_url else None
    async with served(given, settings.telewarm_data) as url:
        await migrate(url)
        connection = await connect(url, application_name="telewarm token")
        try:
            yield connection
        finally:
            await connection.close(timeout=ROUND_TRIP)


async def _create(settings: Settings, name: str, role: Role, lifetime: timedelta | None) -> tuple[ApiToken, str]:
    async with _database(settings) as connection:
        return await tokens.create(connection, name=name, role=role, lifetime=lifetime)


async def _list(settings: Settings) -> list[ApiToken]:
    async with _database(settings) as connection:
        return await tokens.listed(connection)


async def _rotate(settings: Settings, name: str, grace: timedelta) -> tuple[ApiToken, str]:
    async with _database(settings) as connection:
        return await tokens.rotate(connection, name, grace=grace)


async def _revoke(settings: Settings, name: str) -> None:
    async with _database(settings) as connection:
        await tokens.revoke(connection, name)


def _until(moment: datetime | None) -> str:
    return "for ever" if moment is None else f"until {moment:%Y-%m-%d %H:%M} UTC"


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, markup=False)
