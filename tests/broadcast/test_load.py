"""Recipients on their way into the database."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.recipient_import import BATCH_ROWS, ImportResult
from telewarm.broadcasts.recipients import ListFormat
from telewarm.broadcasts.service import BroadcastService
from telewarm.database import broadcasts as table
from telewarm.errors import Conflict, NotFound, UsageError
from telewarm.models import BroadcastId, BroadcastState, ChatId
from telewarm.runtime import Telewarm
from tests.broadcast.stage import TEXT, broadcasts_of, cut_off, draft, recipients_of, stream
from tests.fixtures.app import add_bot
from tests.fixtures.postgres import lock_waiters


@pytest.fixture
def broadcasts(idle_telewarm: Telewarm) -> BroadcastService:
    return broadcasts_of(idle_telewarm)


@pytest.fixture
async def session(idle_telewarm: Telewarm) -> BotSession:
    return await add_bot(idle_telewarm)


async def test_a_list_becomes_recipients_and_what_is_wrong_with_it_is_kept(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    [made] = await broadcasts.create([session], TEXT)

    loaded = await broadcasts.load(made.id, stream(b"chat_id\n5\n-7\n@x\n", b"5\n\n1", b"2\n1.5\n"))

    bad = [line async for line in broadcasts.rejected(made.id)]
    assert loaded == ImportResult(
        added=3,
        duplicates=1,
        rejected=2,
        first_rejected=tuple(bad),
        format=ListFormat.CSV,
        column="chat_id",
        samples=(ChatId(5), ChatId(-7), ChatId(12)),
    )
    assert [(one.line, one.excerpt) for one in bad] == [(4, "@x"), (8, "1.5")]
    assert await recipients_of(idle_telewarm.pool, made.id) == [-7, 5, 12]
    after = await broadcasts.get(made.id)
    assert (after.recipients, after.duplicates, after.rejected) == (3, 1, 2)


@pytest.mark.parametrize(("form", "text"), [(ListFormat.NDJSON, b'5\n{"id":6}'), (ListFormat.JSON, b'[5,{"id":6}]')])
async def test_the_format_may_be_said(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession, form: ListFormat, text: bytes
) -> None:
    [made] = await broadcasts.create([session], TEXT)

    await broadcasts.load(made.id, stream(text), format=form)

    assert await recipients_of(idle_telewarm.pool, made.id) == [5, 6]


async def test_a_program_adds_chat_ids_that_it_has(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5")

    loaded = await broadcasts.add(made.id, [ChatId(5), ChatId(6), ChatId(0)])

    assert (loaded.added, loaded.duplicates, loaded.rejected) == (1, 1, 1)
    assert await recipients_of(idle_telewarm.pool, made.id) == [5, 6]


async def test_of_a_list_that_is_cut_off_whole_rows_stay_and_loading_it_again_adds_the_rest(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    [made] = await broadcasts.create([session], TEXT)
    rows = [b"%d\n" % number for number in range(1000, 1000 + 2 * BATCH_ROWS)]
    cut = BATCH_ROWS + 5

    with pytest.raises(ConnectionResetError):
        await broadcasts.load(made.id, cut_off(b"".join(rows[:cut]), rows[cut][:2]))
    kept = await recipients_of(idle_telewarm.pool, made.id)
    loaded = await broadcasts.load(made.id, stream(b"".join(rows)))

    assert kept == list(range(1000, 1000 + cut))
    assert (await broadcasts.get(made.id)).state is BroadcastState.DRAFT
    assert (loaded.added, loaded.duplicates) == (2 * BATCH_ROWS - cut, cut)
    assert await recipients_of(idle_telewarm.pool, made.id) == list(range(1000, 1000 + 2 * BATCH_ROWS))


@pytest.mark.parametrize(
    "text", [b"5\n7\n6", b"x,chat_id\n1,5\n2,7\n3,1", b'{"id": 5}\n{"id": 7}\n{"i', b'[5, 7, {"id']
)
async def test_of_a_short_list_that_is_cut_off_whole_rows_stay_too(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession, text: bytes
) -> None:
    [made] = await broadcasts.create([session], TEXT)

    with pytest.raises(ConnectionResetError):
        await broadcasts.load(made.id, cut_off(text))

    assert await recipients_of(idle_telewarm.pool, made.id) == [5, 7]


async def test_a_list_that_breaks_off_inside_its_json_says_so_and_keeps_what_came(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    [made] = await broadcasts.create([session], TEXT)

    with pytest.raises(UsageError, match="beyond element 2"):
        await broadcasts.load(made.id, stream(b"[5,6,77"))

    assert await recipients_of(idle_telewarm.pool, made.id) == [5, 6]


async def test_progress_is_told_with_every_batch(broadcasts: BroadcastService, session: BotSession) -> None:
    [made] = await broadcasts.create([session], TEXT)
    reported: list[int] = []

    rows = b"".join(b"%d\n" % number for number in range(2, 2 * BATCH_ROWS + 1))
    await broadcasts.load(made.id, stream(rows, b"x\n"), on_rows=reported.append)

    assert len(reported) >= 2
    assert reported == sorted(reported)
    assert reported[-1] == 2 * BATCH_ROWS


async def test_only_a_draft_takes_recipients(broadcasts: BroadcastService, session: BotSession) -> None:
    made = await draft(broadcasts, session, "5")
    await broadcasts.start(made.id)

    with pytest.raises(Conflict, match="create another"):
        await broadcasts.load(made.id, stream(b"6"))
    with pytest.raises(NotFound):
        await broadcasts.add(BroadcastId(99), [ChatId(6)])


async def test_a_broadcast_that_is_started_while_its_list_streams_takes_no_more_of_it(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"6\n"
        await broadcasts.start(made.id)
        yield b"7\n"

    with pytest.raises(Conflict):
        await broadcasts.load(made.id, chunks())

    assert await recipients_of(idle_telewarm.pool, made.id) == [5]
    assert (await broadcasts.get(made.id)).recipients == 1


async def test_a_batch_waits_for_the_start_that_is_being_written_and_is_then_refused(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5")
    async with idle_telewarm.pool.acquire() as connection, connection.transaction():
        await table.set_state(connection, made.id, BroadcastState.RUNNING, only_from=[BroadcastState.DRAFT])
        loading = asyncio.create_task(broadcasts.load(made.id, stream(b"6")))
        while not await lock_waiters(idle_telewarm.pool):
            await clock.sleep(0.01)

    with pytest.raises(Conflict):
        await loading
    assert await recipients_of(idle_telewarm.pool, made.id) == [5]


async def test_two_lists_may_stream_in_at_once(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    [made] = await broadcasts.create([session], TEXT)
    lists = [b"".join(b"%d\n" % number for number in range(first, first + 60_000)) for first in (5, 30_005)]

    loads = await asyncio.gather(*[broadcasts.load(made.id, stream(text)) for text in lists])

    assert sum(load.added for load in loads) == 90_000
    assert sum(load.duplicates for load in loads) == 30_000
    assert (await broadcasts.get(made.id)).recipients == 90_000
    assert len(await recipients_of(idle_telewarm.pool, made.id)) == 90_000


async def test_rows_go_to_the_bots_that_they_name(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    other = await add_bot(idle_telewarm, 1)
    first, second = await broadcasts.create([session, other], TEXT)

    loaded = await broadcasts.load(first.id, stream(b"chat_id,bot\n1,bot-0\n2,bot-1\n3,\n4,bot-2\n2,bot-1\n"))

    assert (loaded.added, loaded.duplicates, loaded.rejected) == (3, 1, 1)
    assert await recipients_of(idle_telewarm.pool, first.id) == [1, 3]
    assert await recipients_of(idle_telewarm.pool, second.id) == [2]


async def test_a_broadcast_of_one_bot_takes_no_rows_of_another(
    broadcasts: BroadcastService, session: BotSession
) -> None:
    [made] = await broadcasts.create([session], TEXT)

    loaded = await broadcasts.load(made.id, stream(b"chat_id,bot\n1,bot-0\n2,bot-1\n"))

    assert (loaded.added, [bad.line for bad in loaded.first_rejected]) == (1, [3])


async def test_the_answer_shows_the_first_rejected_rows_and_all_are_kept(
    broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5", *["@x"] * 100)

    assert made.rejected == 100
    assert [bad.line async for bad in broadcasts.rejected(made.id)] == list(range(2, 102))
    loaded = await broadcasts.load(made.id, stream(b"@y\n" * 100))
    assert [bad.line for bad in loaded.first_rejected] == list(range(1, 21))


async def test_a_long_list_takes_no_more_memory_than_a_short_one(
    broadcasts: BroadcastService, session: BotSession
) -> None:
    chats = [1 + number * 7919 % (4 * BATCH_ROWS + 1) for number in range(4 * BATCH_ROWS)]  # each once, in no order

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for at in range(0, count, 1000):
            yield b"".join(b"%d\n" % chat for chat in chats[at : at + 1000])

    peaks = []
    for count in (BATCH_ROWS, 4 * BATCH_ROWS):
        [made] = await broadcasts.create([session], TEXT)
        tracemalloc.start()
        await broadcasts.load(made.id, chunks(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 1.3 * peaks[0]


async def test_a_guessed_column_waits_for_a_confirmation_or_for_its_name(
    broadcasts: BroadcastService, session: BotSession
) -> None:
    [made], [said] = await broadcasts.create([session], TEXT), await broadcasts.create([session], TEXT)
    listed = b"No,Name,Ref\n1,Ann,500000001\n2,Bob,500000002\n"

    loaded = await broadcasts.load(made.id, stream(listed))
    named = await broadcasts.load(said.id, stream(listed), column="Ref")

    assert (loaded.column, loaded.samples, named.column) == ("Ref", (500000001, 500000002), "Ref")
    assert "'Ref'" in str(loaded.guess)
    assert named.guess is None
    assert (await broadcasts.get(made.id)).guess == loaded.guess
    with pytest.raises(Conflict, match="guessed"):
        await broadcasts.start(made.id)
    assert (await broadcasts.get(made.id)).state is BroadcastState.DRAFT
    assert (await broadcasts.start(made.id, confirm=True)).state is BroadcastState.RUNNING
    assert (await broadcasts.start(said.id)).state is BroadcastState.RUNNING


async def test_a_guess_is_kept_when_the_list_breaks_off_behind_it(
    broadcasts: BroadcastService, session: BotSession
) -> None:
    [made] = await broadcasts.create([session], TEXT)
    rows = b"".join(b"x,%d\n" % number for number in range(500_000_001, 500_001_001))

    with pytest.raises(ConnectionResetError):
        await broadcasts.load(made.id, cut_off(rows))

    assert (await broadcasts.get(made.id)).recipients == 1000
    with pytest.raises(Conflict, match="guessed"):
        await broadcasts.start(made.id)


async def test_a_guess_counts_for_every_broadcast_that_the_list_goes_to(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    first, second = await broadcasts.create([session, await add_bot(idle_telewarm, 1)], TEXT)

    await broadcasts.load(first.id, stream(b"ref,bot\n500000001,bot-0\n500000002,bot-1\n"))

    for made in (first, second):
        with pytest.raises(Conflict, match="guessed"):
            await broadcasts.start(made.id)


async def test_a_list_that_does_not_say_where_its_chats_are_loads_nothing(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    [made] = await broadcasts.create([session], TEXT)

    with pytest.raises(UsageError, match="column=No"):
        await broadcasts.load(made.id, stream(b"No,Name\n1,Ann\n2,Bob\n"))

    assert await recipients_of(idle_telewarm.pool, made.id) == []
    await broadcasts.load(made.id, stream(b"No,Name\n1,Ann\n2,Bob\n"), column="No")
    assert await recipients_of(idle_telewarm.pool, made.id) == [1, 2]
