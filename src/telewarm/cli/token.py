"""`telewarm token …`: named API tokens, also while nothing serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from telewarm.cli.console import echo_err, wide_console
from telewarm.cli.env import read_settings
from telewarm.cli.run import run
from telewarm.component_config import server_token
from telewarm.database import tokens
from telewarm.database.connection import Connection
from telewarm.database.pool import ROUND_TRIP_SECONDS, connect
from telewarm.database.ready import open_database_url
from telewarm.database.tokens import ApiToken, Role
from telewarm.settings import Settings

HELP = (
    "Create, list, rotate and revoke named API tokens. Each has a role: `read` only reads, `operate` also sends, adds "
    "media and runs broadcasts, `admin` may do everything. A token is shown once; Telewarm keeps only its hash. "
    "Running servers apply changes within moments. The server's own token is not among them: `telewarm token show`."
)
DEFAULT_GRACE_SECONDS = 300  # seconds

app = typer.Typer(help=HELP, no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Its name: letters, digits, `.`, `_` and `-`.", show_default=False)]


@app.command("create")
def create(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="What it may do.", show_default=False)],
    expires_in_days: Annotated[
        float | None, typer.Option(min=0.001, max=3650, help="Days until it expires. [never expires]")
    ] = None,
) -> None:
    """Create a token and print it, alone on standard output so that a script can store it. It is shown only once."""
    lifetime = None if expires_in_days is None else timedelta(days=expires_in_days)
    made, secret = run(_create(read_settings(), name, role, lifetime))
    expiry = "never expires" if made.expires_at is None else f"valid until {_format_time(made.expires_at)}"
    may = "read-only" if made.role is Role.READ else made.role.value
    echo_err(f"Token {made.name!r} ({may}, {expiry}). Send it as `Authorization: Bearer …`")
    typer.echo(secret)


@app.command("list")
def list_tokens() -> None:
    """List the tokens: role, expiry and last use. The token itself is never shown."""
    tokens_found = run(_list(read_settings()))
    if not tokens_found:
        echo_err("No tokens yet. Create one: telewarm token create --help")
        return
    table = Table("name", "role", "created", "expires", "last used", box=None, pad_edge=False)
    for one in tokens_found:
        used = _format_time(one.last_used_at)
        table.add_row(one.name, one.role, f"{one.created_at:%Y-%m-%d}", _format_time(one.expires_at), used)
    wide_console().print(table)


@app.command("show")
def show() -> None:
    """Print the server's own token, for `Authorization: Bearer …`. Its role is admin.

    It is ADMIN_API_TOKEN, or the token in the data folder, which is created there if needed.
    """
    own = server_token(read_settings())
    echo_err("ADMIN_API_TOKEN" if own.path is None else f"kept in {own.path}")
    typer.echo(own.secret)


@app.command("rotate")
def rotate(
    name: NameArgument,
    grace_s: Annotated[
        int, typer.Option(min=0, max=86_400, help="Seconds for which the old secret stays valid.")
    ] = DEFAULT_GRACE_SECONDS,
) -> None:
    """Print a new secret for a token. The old one stays valid for a while, so that no client is locked out."""
    made, secret = run(_rotate(read_settings(), name, timedelta(seconds=grace_s)))
    echo_err(f"{made.name} has a new secret; the old one stays valid for {grace_s} s")
    typer.echo(secret)


@app.command("revoke")
def revoke(name: NameArgument) -> None:
    """Revoke a token everywhere, within moments. Its name can be used again."""
    run(_revoke(read_settings(), name))
    echo_err(f"{name} is revoked")


@asynccontextmanager
async def _open_database(settings: Settings) -> AsyncIterator[Connection]:
    given = settings.database_url.get_secret_value() if settings.database_url else None
    async with open_database_url(given, settings.telewarm_data, upgrade=False) as url:
        connection = await connect(url, application_name="telewarm token")
        try:
            yield connection
        finally:
            await connection.close(timeout=ROUND_TRIP_SECONDS)


async def _create(settings: Settings, name: str, role: Role, lifetime: timedelta | None) -> tuple[ApiToken, str]:
    async with _open_database(settings) as connection:
        return await tokens.create(connection, name=name, role=role, lifetime=lifetime)


async def _list(settings: Settings) -> list[ApiToken]:
    async with _open_database(settings) as connection:
        return await tokens.list_tokens(connection)


async def _rotate(settings: Settings, name: str, grace: timedelta) -> tuple[ApiToken, str]:
    async with _open_database(settings) as connection:
        return await tokens.rotate(connection, name, grace=grace)


async def _revoke(settings: Settings, name: str) -> None:
    async with _open_database(settings) as connection:
        await tokens.revoke(connection, name)


def _format_time(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
