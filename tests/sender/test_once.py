"""Idempotency keys: one send however often it is asked for, and never a second one that nobody asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import asyncpg
import pytest
from structlog.testing import capture_logs

from telewarm import clock, errors
from telewarm.database import idempotency as sends
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.database.pool import open_pool
from telewarm.errors import Conflict, TelegramUnreachable, TelewarmError, UsageError
from telewarm.models import Bot, BotId, MessageId, MessageSet
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sending.idempotency import IdempotencyStore, Results, describe
from telewarm.sending.send_context import SendResult
from tests.fixtures.app import READER, Opener, add_bot
from tests.fixtures.outages import database_away
from tests.fixtures.postgres import lock_waiters
from tests.fixtures.rows import make_bot, make_lease

ASKED = b'["chat", "message"]'


def went(number: int = 1) -> dict[str, object]:
    return {"message_id": number, "kind": "text", "cache_hit": False, "lat_ms": 0.1}


def failed(error: TelewarmError) -> dict[str, object]:
    return describe(SendResult(media_id=None, kind=None, message_id=None, cache_hit=False, lat_ms=0.1, error=error))


@dataclass(slots=True)
class Sending:
    """What a call would send; it can be held up."""

    results: Results = field(default_factory=lambda: [went()])
    error: BaseException | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    times: int = 0

    async def __call__(self) -> Results:
        self.times += 1
        self.begun.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.results


def sending(*results: dict[str, object], error: BaseException | None = None) -> Sending:
    ready = Sending(error=error)
    ready.results = list(results) or ready.results
    ready.go.set()
    return ready


@pytest.fixture
async def bot(pool: Pool) -> Bot:
    return await make_bot(pool)


@pytest.fixture
async def processes(database_url: str) -> AsyncIterator[list[IdempotencyStore]]:
    """Two, with pools and leases of their own."""
    async with AsyncExitStack() as stack:
        made = []
        for number in range(2):
            pool = await open_pool(database_url, max_size=4, application_name=f"process-{number}")
            stack.push_async_callback(pool.close)
            made.append(IdempotencyStore(pool=pool, lease=await stack.enter_async_context(ProcessLease.open(pool))))
        yield made


async def run(
    once: IdempotencyStore, bot: Bot, sends: Sending, *, key: str = "k", patience: float = 10
) -> tuple[Results, bool]:
    return await once.run(bot.id, key, ASKED, sends, patience=patience)


async def test_a_repeated_call_returns_the_first_result_in_every_process(
    processes: list[IdempotencyStore], bot: Bot
) -> None:
    first, second = sending(went(7), failed(TelewarmError("so"))), sending(went(8))

    answers = [
        await run(processes[0], bot, first),
        await run(processes[1], bot, second),
        await run(processes[0], bot, second),
    ]

    assert answers == [(first.results, False), (first.results, True), (first.results, True)]
    assert (first.times, second.times) == (1, 0)


async def test_forty_calls_at_once_from_two_telewarms_send_once(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarms = [await telewarm_with(worker=False) for _ in range(2)]
    session = await add_bot(telewarms[0])

    async def call(telewarm: Telewarm) -> tuple[Results, bool]:
        async def send() -> Results:
            sent = await telewarm.sender.send(await telewarm.bots.get(session.bot.id), READER, MessageSet(text="so"))
            return [describe(result) for result in sent]

        return await telewarm.idempotency.run(session.bot.id, "k", ASKED, send, patience=15)

    answers = await asyncio.gather(*(call(telewarms[number % 2]) for number in range(40)))

    assert sandbox.state.stats.chats == {READER: 1}
    assert [replayed for _, replayed in answers].count(False) == 1
    assert len({json.dumps(results, sort_keys=True) for results, _ in answers}) == 1


@pytest.mark.parametrize("other", [0, 1], ids=["the same process", "another process"])
async def test_a_call_meanwhile_waits_for_the_first_one(
    processes: list[IdempotencyStore], bot: Bot, other: int
) -> None:
    slow, never = Sending(), sending(went(8))
    first = asyncio.create_task(run(processes[0], bot, slow))
    await slow.begun.wait()
    second = asyncio.create_task(run(processes[other], bot, never))
    with pytest.raises(Conflict, match="still under way: ask again with the same key"):
        await run(processes[other], bot, never, patience=0.01)

    slow.go.set()

    assert await first == (slow.results, False)
    assert await second == (slow.results, True)
    assert never.times == 0


async def test_another_message_under_the_same_key_is_refused(processes: list[IdempotencyStore], bot: Bot) -> None:
    await run(processes[0], bot, sending())

    with pytest.raises(Conflict, match="used for another message: use a new key"):
        await processes[1].run(bot.id, "k", b"another", sending(), patience=1)


async def test_keys_are_a_bots_own(processes: list[IdempotencyStore], bot: Bot, pool: Pool) -> None:
    other = await make_bot(pool, 1)
    first, second = sending(), sending()

    await run(processes[0], bot, first)
    await run(processes[0], other, second)

    assert (first.times, second.times) == (1, 1)


NOTHING_WENT = [
    errors.FloodWait(method="send", status=429, description="wait", retry_after=3),
    errors.MediaNotReady("not yet", retry_after=1),
    errors.DatabaseUnavailable("away"),
    TelegramUnreachable("away", method="sendMessage", effect_possible=False),
]
KEPT = [
    TelegramUnreachable("no answer", method="sendMessage", effect_possible=True),
    errors.ChatUnreachable(method="sendMessage", status=403, description="blocked", reason="blocked"),
]


@pytest.mark.parametrize("error", NOTHING_WENT, ids=lambda error: error.code)
async def test_a_send_of_which_surely_nothing_went_may_be_tried_again(
    processes: list[IdempotencyStore], bot: Bot, error: TelewarmError
) -> None:
    first, second = sending(failed(error), failed(error)), sending(went(8))

    assert await run(processes[0], bot, first) == (first.results, False)
    assert await run(processes[1], bot, second) == (second.results, False)


@pytest.mark.parametrize("error", KEPT, ids=lambda error: error.code)
async def test_a_send_that_was_refused_or_may_have_gone_is_not_tried_again(
    processes: list[IdempotencyStore], bot: Bot, error: TelewarmError
) -> None:
    first, second = sending(failed(NOTHING_WENT[0]), failed(error)), sending(went(8))
    await run(processes[0], bot, first)

    assert await run(processes[1], bot, second) == (first.results, True)


async def test_a_send_of_which_one_message_went_is_not_tried_again(processes: list[IdempotencyStore], bot: Bot) -> None:
    first, second = sending(went(), failed(NOTHING_WENT[0])), sending(went(8))
    await run(processes[0], bot, first)

    assert await run(processes[1], bot, second) == (first.results, True)


async def test_a_send_that_was_refused_before_it_began_leaves_no_key(
    processes: list[IdempotencyStore], bot: Bot
) -> None:
    with pytest.raises(UsageError, match="nothing to send"):
        await run(processes[0], bot, sending(error=UsageError("nothing to send")))

    assert (await run(processes[0], bot, sending()))[1] is False


async def test_after_its_sender_died_a_send_is_never_done_again(
    processes: list[IdempotencyStore], bot: Bot, pool: Pool
) -> None:
    gone = await make_lease(pool)
    await sends.claim(pool, bot.id, "k", fingerprint=b"", lease_id=gone)
    await pool.execute("UPDATE idempotency_key SET fingerprint = sha256($1)", ASKED)
    never = sending()
    waiting = asyncio.create_task(run(processes[0], bot, never))

    await pool.execute("DELETE FROM lease WHERE id = $1", gone)

    with pytest.raises(Conflict, match=r"nobody knows what of it went: look at the chat.* another key"):
        await waiting
    assert never.times == 0


async def test_a_lease_that_ran_out_counts_as_dead_though_nobody_swept_it(
    processes: list[IdempotencyStore], bot: Bot, pool: Pool
) -> None:
    await sends.claim(pool, bot.id, "k", fingerprint=b"", lease_id=await make_lease(pool, seconds=-1))
    await pool.execute("UPDATE idempotency_key SET fingerprint = sha256($1)", ASKED)

    with pytest.raises(Conflict, match="nobody knows"):
        await run(processes[0], bot, sending())


@pytest.mark.parametrize("error", [None, RuntimeError("a bug")], ids=["cancelled", "a bug"])
async def test_a_send_that_is_broken_off_is_unknown_at_once_and_not_done_again(
    processes: list[IdempotencyStore], bot: Bot, error: BaseException | None
) -> None:
    slow, never = Sending(error=error), sending()
    first = asyncio.create_task(run(processes[0], bot, slow))
    await slow.begun.wait()
    if error is None:
        first.cancel()
    else:
        slow.go.set()
    await asyncio.wait([first])

    for once in processes:
        with pytest.raises(Conflict, match="nobody knows"):
            await run(once, bot, never)
    assert never.times == 0


async def test_a_cancellation_does_not_lose_what_went(processes: list[IdempotencyStore], bot: Bot, pool: Pool) -> None:
    slow = Sending()
    first = asyncio.create_task(run(processes[0], bot, slow))
    await slow.begun.wait()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE idempotency_key")
        slow.go.set()
        while not await lock_waiters(pool):
            pass
        first.cancel()
    await asyncio.wait([first])

    assert first.cancelled()
    assert await run(processes[1], bot, sending(went(8))) == (slow.results, True)


async def test_a_short_outage_of_the_database_does_not_lose_what_went(
    processes: list[IdempotencyStore], bot: Bot, database_url: str
) -> None:
    slow = Sending()
    first = asyncio.create_task(run(processes[0], bot, slow))
    await slow.begun.wait()
    with capture_logs() as logged:
        async with database_away(database_url):
            slow.go.set()
            while not any(line["event"] == "idempotent_result_write_retried" for line in logged):
                await clock.sleep(0.01)

    assert await first == (slow.results, False)
    assert await run(processes[1], bot, sending(went(8))) == (slow.results, True)


async def test_a_call_that_is_cancelled_while_it_takes_the_key_leaves_it_free(
    processes: list[IdempotencyStore], bot: Bot, pool: Pool
) -> None:
    never = sending()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE idempotency_key")
        first = asyncio.create_task(run(processes[0], bot, never))
        while not await lock_waiters(pool):
            pass
        first.cancel()
        await sends.claim(connection, bot.id, "k", fingerprint=b"", lease_id=processes[0]._lease.id)
    await asyncio.wait([first])

    assert never.times == 0
    assert (await run(processes[1], bot, sending()))[1] is False


@pytest.mark.parametrize("key", ["", "k" * 201, "a\0b", "a\nb", "\ud800"])
async def test_what_is_no_key_is_refused(processes: list[IdempotencyStore], bot: Bot, key: str) -> None:
    with pytest.raises(UsageError, match="1 to 200 printable characters"):
        await run(processes[0], bot, sending(), key=key)


async def test_a_long_key_of_any_letters_and_a_result_with_a_nul_are_kept(
    processes: list[IdempotencyStore], bot: Bot
) -> None:
    key = "ключ🐈" * 40
    await run(processes[0], bot, sending(went() | {"message": "a\0b"}), key=key)

    [result], replayed = await run(processes[1], bot, sending(), key=key)

    assert (result["message"], replayed) == ("a\ufffdb", True)


async def test_keys_are_forgotten_after_a_day(processes: list[IdempotencyStore], bot: Bot, pool: Pool) -> None:
    for key in ("old", "new"):
        await run(processes[0], bot, sending(), key=key)
    await pool.execute("UPDATE idempotency_key SET created_at = now() - interval '25 hours' WHERE key = 'old'")

    assert await sends.sweep(pool) == 1

    assert [(await run(processes[0], bot, sending(), key=key))[1] for key in ("old", "new")] == [False, True]


async def test_nothing_is_held_in_memory_of_keys_that_were_used(processes: list[IdempotencyStore], bot: Bot) -> None:
    for number in range(10):
        await run(processes[0], bot, sending(went(number)), key=str(number))

    assert len(processes[0]._locks) == 0


async def test_a_bot_that_is_gone_is_an_error_and_no_endless_loop(processes: list[IdempotencyStore]) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await processes[0].run(BotId(99), "k", ASKED, sending(), patience=1)


def test_a_result_tells_whether_the_message_may_have_gone_and_when_to_come_back() -> None:
    assert failed(NOTHING_WENT[0])["retry_after"] == 3
    assert failed(KEPT[0])["maybe_sent"] is True
    assert "maybe_sent" not in failed(NOTHING_WENT[3])
    sent = SendResult(media_id=None, kind=None, message_id=MessageId(7), cache_hit=False, lat_ms=0.1)
    assert describe(sent) == went(7)
