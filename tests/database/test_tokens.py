"""Named API tokens at rest: hashes alone, one name one live token, good until they expire or are revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from telewarm.database import audit, tokens
from telewarm.database.audit import AuditEntry
from telewarm.database.connection import Connection, Pool
from telewarm.database.notifications import subscribe
from telewarm.database.tokens import Role
from telewarm.errors import Conflict, NotFound, UsageError

HOUR = timedelta(hours=1)


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection:
        yield connection


async def opens(pool: Pool, secret: str) -> bool:
    return tokens.hash_of(secret) in {one.hash for one in await tokens.valid_tokens(pool)}


async def whole_table(pool: Pool) -> str:
    return str([dict(row) for row in await pool.fetch("SELECT * FROM api_token")])


@pytest.mark.parametrize(
    ("has", "may"),
    [
        (Role.READ, {Role.READ}),
        (Role.OPERATE, {Role.READ, Role.OPERATE}),
        (Role.ADMIN, {Role.READ, Role.OPERATE, Role.ADMIN}),
    ],
)
def test_each_role_may_what_those_before_it_may(has: Role, may: set[Role]) -> None:
    assert {role for role in Role if has.covers(role)} == may


def test_every_secret_is_another_with_256_bits_behind_the_prefix() -> None:
    made = {tokens.new_secret() for _ in range(1000)}
    assert len(made) == 1000
    assert all(secret.startswith("tw_") and len(secret) == 3 + 43 for secret in made)


async def test_a_token_is_kept_as_its_hash_alone(pool: Pool, connection: Connection) -> None:
    made, secret = await tokens.create(connection, name="grafana", role=Role.READ)

    assert await opens(pool, secret)
    assert (made.name, made.role, made.expires_at, made.last_used_at) == ("grafana", Role.READ, None, None)
    shown = await whole_table(pool) + repr(made) + repr(await tokens.valid_tokens(pool))
    assert secret not in shown
    assert secret.removeprefix("tw_") not in shown


@pytest.mark.parametrize(
    "name", ["", " x", "-x", "a b", "a/b", "ä", "x" * 64, "a\0b", "tw_looks-like-a-token", "Local", "ADMIN_API_TOKEN"]
)
async def test_a_name_that_cannot_be_or_stands_for_another_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(UsageError, match="name") as caught:
        await tokens.create(connection, name=name, role=Role.READ)
    assert "looks-like" not in str(caught.value)


async def test_a_name_is_taken_until_its_token_is_revoked(pool: Pool, connection: Connection) -> None:
    _, first = await tokens.create(connection, name="ci", role=Role.OPERATE)
    with pytest.raises(Conflict, match="choose another name, rotate that one, or revoke it"):
        await tokens.create(connection, name="ci", role=Role.READ)

    revoked = await tokens.revoke(connection, "ci")
    _, second = await tokens.create(connection, name="ci", role=Role.READ)

    assert revoked.revoked_at is not None
    assert not await opens(pool, first)
    assert await opens(pool, second)
    assert [one.role for one in await tokens.list_tokens(pool)] == [Role.READ]


async def test_an_expired_token_opens_nothing_and_cannot_be_rotated(pool: Pool, connection: Connection) -> None:
    _, secret = await tokens.create(connection, name="short", role=Role.READ, lifetime=HOUR)
    assert [one.seconds_left for one in await tokens.valid_tokens(pool)] == [pytest.approx(3600, abs=20)]

    await pool.execute("UPDATE api_token SET expires_at = now()")

    assert not await opens(pool, secret)
    with pytest.raises(Conflict, match="revoke it and create it again"):
        await tokens.rotate(connection, "short", grace=HOUR)


async def test_after_a_rotation_the_old_secret_is_good_for_the_grace_alone(pool: Pool, connection: Connection) -> None:
    _, first = await tokens.create(connection, name="ci", role=Role.READ)
    _, second = await tokens.rotate(connection, "ci", grace=HOUR)
    assert [await opens(pool, secret) for secret in (first, second)] == [True, True]

    _, third = await tokens.rotate(connection, "ci", grace=HOUR)
    assert [await opens(pool, secret) for secret in (first, second, third)] == [False, True, True]

    await pool.execute("UPDATE api_token SET old_until = now()")
    assert [await opens(pool, secret) for secret in (second, third)] == [False, True]


async def test_the_grace_does_not_outlive_the_token(pool: Pool, connection: Connection) -> None:
    _, first = await tokens.create(connection, name="ci", role=Role.READ, lifetime=HOUR)
    await tokens.rotate(connection, "ci", grace=24 * HOUR)

    assert all(one.seconds_left is not None and one.seconds_left <= 3600 for one in await tokens.valid_tokens(pool))
    await tokens.revoke(connection, "ci")
    assert not await opens(pool, first)


@pytest.mark.parametrize("name", ["nobody", "revoked"])
async def test_what_is_not_there_is_neither_rotated_nor_revoked(connection: Connection, name: str) -> None:
    await tokens.create(connection, name="revoked", role=Role.READ)
    await tokens.revoke(connection, "revoked")

    with pytest.raises(NotFound, match=name):
        await tokens.rotate(connection, name, grace=HOUR)
    with pytest.raises(NotFound, match=name):
        await tokens.revoke(connection, name)


async def test_there_is_a_most_and_processes_that_make_tokens_at_once_keep_to_it(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_TOKENS", 3)

    async def make(number: int) -> None:
        async with pool.acquire() as connection:
            await tokens.create(connection, name=f"token-{number}", role=Role.READ)

    ended = await asyncio.gather(*(make(number) for number in range(8)), return_exceptions=True)
    refused = [error for error in ended if isinstance(error, Conflict)]
    assert (ended.count(None), len(refused)) == (3, 5)
    assert "revoke those that nobody uses" in str(refused[0])


async def test_every_change_is_told_once_it_holds(pool: Pool, connection: Connection) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with subscribe(pool, {tokens.CHANNEL: heard.put_nowait}, on_lost=lambda: None):
        await tokens.create(connection, name="ci", role=Role.READ)
        await heard.get()
        await tokens.rotate(connection, "ci", grace=HOUR)
        await heard.get()
        await tokens.revoke(connection, "ci")
        await heard.get()


async def test_use_is_noted_at_most_once_a_minute(pool: Pool, connection: Connection) -> None:
    made, _ = await tokens.create(connection, name="ci", role=Role.READ)
    await tokens.update_last_used(pool, made.id)
    [first] = await tokens.list_tokens(pool)
    await tokens.update_last_used(pool, made.id)
    assert [first] == await tokens.list_tokens(pool)
    assert first.last_used_at is not None

    await pool.execute("UPDATE api_token SET last_used_at = last_used_at - interval '61 seconds'")
    await tokens.update_last_used(pool, made.id)
    [later] = await tokens.list_tokens(pool)
    assert later.last_used_at is not None
    assert later.last_used_at > first.last_used_at


async def changes(pool: Pool, *ages: int) -> None:
    """One row for each age in days, the oldest first."""
    at = await pool.fetchval("SELECT now()")
    rows = [
        AuditEntry(
            at=at - timedelta(days=age),
            actor="ci",
            role="admin",
            action="POST /x",
            target=f"/{age}",
            status=200,
            request_id=None,
            address=None,
        )
        for age in sorted(ages, reverse=True)
    ]
    await audit.insert(pool, rows)


async def test_old_changes_are_trimmed_in_chunks_and_the_others_stay(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ROWS_PER_DELETE", 2)
    await changes(pool, 400, 300, 200, 100, 91, 89, 1, 0)

    assert await audit.trim(pool) == 5
    assert await audit.trim(pool) == 0
    assert [change.target for change in await audit.page(pool, limit=10)] == ["/0", "/1", "/89"]


async def test_trimming_looks_at_one_row_when_nothing_is_old(pool: Pool) -> None:
    await changes(pool, *range(50))
    explain = "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) " + audit.TRIM_SQL
    plan = await pool.fetch(explain, audit.RETENTION_DAYS, audit.ROWS_PER_DELETE)
    said = "\n".join(row[0] for row in plan)
    assert "One-Time Filter" in said, said
    assert "never executed" in said, said
