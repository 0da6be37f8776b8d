"""Table `api_token`: tokens of the HTTP API. A token is shown once and stored as its hash."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import asyncpg

from telewarm.cures import Cure
from telewarm.database.connection import Connection, Executor
from telewarm.errors import Conflict, NotFound, UsageError

CHANNEL = "telewarm_token"  # NOTIFY: some token was made, changed or revoked
SECRET_PREFIX = "tw_"  # noqa: S105 - what every secret begins with
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SERVER_TOKEN_NAME = "ADMIN_API_TOKEN"  # noqa: S105 - the server's own token, wherever it is kept
RESERVED_NAMES = frozenset(
    {SERVER_TOKEN_NAME.lower(), "local"}
)  # in the audit log: the server's own token; none, once allowed
MAX_TOKENS = 1000  # every process keeps all of them in memory
ADVISORY_LOCK_KEY = 7_316_582_394_107_542  # any number, as long as nothing else in the database locks it
COLUMNS = "id, name, role, created_at, expires_at, last_used_at, revoked_at"


class Role(StrEnum):
    """Role of a token; each includes the rights of those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Return whether the role includes another."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiToken:
    """A token, without its secret."""

    id: int
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None  # within two minutes
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidToken:
    """A valid secret. `seconds_left`: its remaining lifetime, None without an end."""

    id: int
    name: str
    role: Role
    hash: bytes = field(repr=False)
    seconds_left: float | None


def new_secret() -> str:
    """Return 256 random bits."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    """Return the plain SHA-256: 256 random bits cannot be guessed, however fast the hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def check_name(name: str) -> None:
    """Check a name. Raises UsageError, which does not repeat it: it may be a token entered by mistake."""
    if NAME_PATTERN.fullmatch(name) is None or name.startswith(SECRET_PREFIX):
        raise UsageError(
            "a token's name begins with a letter or a digit (a to z, 0 to 9) and goes on with those, `.`, `_` or `-`, "
            f"63 in all, and does not begin with {SECRET_PREFIX}"
        )
    if name.lower() in RESERVED_NAMES:
        raise UsageError(f"the name {name!r} is taken by Telewarm itself: choose another")


async def create(
    connection: Connection, *, name: str, role: Role, lifetime: timedelta | None = None
) -> tuple[ApiToken, str]:
    """Create a token. Returns it with its secret, which cannot be shown again. Raises UsageError, Conflict."""
    check_name(name)
    secret = new_secret()
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY
            )  # or two would both find room for one
            if await connection.fetchval("SELECT count(*) FROM api_token WHERE revoked_at IS NULL") >= MAX_TOKENS:
                raise Conflict(f"there are {MAX_TOKENS} API tokens, which is the most: revoke those that nobody uses")
            row = await connection.fetchrow(
                f"INSERT INTO api_token (name, role, hash, expires_at) VALUES ($1, $2, $3, now() + $4)"
                f" RETURNING {COLUMNS}",
                name,
                role,
                hash_of(secret),
                lifetime,
            )
            await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    except asyncpg.UniqueViolationError:
        raise Conflict(f"there is an API token {name!r}: choose another name, rotate that one, or revoke it") from None
    assert row is not None  # noqa: S101 - INSERT … RETURNING gives its row
    return _token(row), secret


async def rotate(connection: Connection, name: str, *, grace: timedelta) -> tuple[ApiToken, str]:
    """Replace a token's secret. Returns the token and the new secret; the previous one is valid for `grace` more.

    Older secrets become invalid at once. Raises NotFound, Conflict when the token has expired.
    """
    check_name(name)
    secret = new_secret()
    async with connection.transaction():
        row = await connection.fetchrow(
            "UPDATE api_token SET hash = $2, old_hash = hash, old_until = now() + $3"
            " WHERE name = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
            f" RETURNING {COLUMNS}",
            name,
            hash_of(secret),
            grace,
        )
        if row is None:
            if await connection.fetchval("SELECT true FROM api_token WHERE name = $1 AND revoked_at IS NULL", name):
                raise Conflict(f"the API token {name!r} has expired: revoke it and create it again")
            raise _not_found(name)
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    return _token(row), secret


async def revoke(connection: Connection, name: str) -> ApiToken:
    """Revoke the token and its previous secret. Raises NotFound."""
    check_name(name)
    async with connection.transaction():
        row = await connection.fetchrow(
            "UPDATE api_token SET revoked_at = now(), old_hash = NULL, old_until = NULL"
            f" WHERE name = $1 AND revoked_at IS NULL RETURNING {COLUMNS}",
            name,
        )
        if row is None:
            raise _not_found(name)
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    return _token(row)


async def list_tokens(db: Executor) -> list[ApiToken]:
    """Return tokens that are not revoked, by name, including expired ones."""
    rows = await db.fetch(f"SELECT {COLUMNS} FROM api_token WHERE revoked_at IS NULL ORDER BY name")
    return [_token(row) for row in rows]


async def valid_tokens(db: Executor) -> list[ValidToken]:
    """Return the hashes of all valid secrets; after a rotation a token has two for a while."""
    rows = await db.fetch(
        "SELECT id, name, role, hash, extract(epoch FROM until - now())::float8 AS left_s FROM ("
        " SELECT id, name, role, hash, expires_at AS until FROM api_token WHERE revoked_at IS NULL"
        " UNION ALL"
        " SELECT id, name, role, old_hash, least(old_until, expires_at) FROM api_token"
        " WHERE revoked_at IS NULL AND old_hash IS NOT NULL"
        ") AS secret WHERE until IS NULL OR until > now()"
    )
    return [
        ValidToken(id=row["id"], name=row["name"], role=Role(row["role"]), hash=row["hash"], seconds_left=row["left_s"])
        for row in rows
    ]


async def update_last_used(db: Executor, token_id: int) -> None:
    """Store the time of use, at most once a minute, whichever process reports it."""
    await db.execute(
        "UPDATE api_token SET last_used_at = now()"
        " WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')",
        token_id,
    )


def _not_found(name: str) -> NotFound:
    lists = Cure(
        library="list them with `telewarm token list`",
        cli="list them with `telewarm token list`",
        api="list them with GET /api/admin/tokens",
    )
    return NotFound(f"there is no API token {name!r}", by_face=lists)


def _token(row: asyncpg.Record) -> ApiToken:
    return ApiToken(**{**row, "role": Role(row["role"])})
