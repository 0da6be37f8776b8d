"""A message and a list submitted as one thing: repeated, it goes on, and nobody gets it twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from telewarm import AlreadySent, SendPlan, clock
from telewarm.bots.sessions import BotSession
from telewarm.database import broadcasts, submissions
from telewarm.errors import Conflict, UsageError
from telewarm.models import Broadcast, BroadcastState, ChatId, DeliveryStatus, MessageSet
from telewarm.runtime import Telewarm
from tests.broadcast.stage import deliver, land, recipients_of, stream
from tests.fixtures.app import READER, add_bot, add_photos, message_of, readers

CHATS = readers(5)
DONE, CANCELLED, PAUSED = BroadcastState.DONE, BroadcastState.CANCELLED, BroadcastState.PAUSED
RUNNING, SCHEDULED = BroadcastState.RUNNING, BroadcastState.SCHEDULED


@pytest.fixture
async def session(idle_telewarm: Telewarm) -> BotSession:
    return await add_bot(idle_telewarm)


async def submit(
    telewarm: Telewarm, text: str = "Hello", plan: SendPlan | None = None, *, again: bool = False
) -> Broadcast:
    [made] = (await telewarm.submit("bot-0", text, CHATS, plan or SendPlan(), again=again)).broadcasts
    return made


async def ended(telewarm: Telewarm, made: Broadcast, *, hours: float = 0) -> None:
    await deliver(telewarm.pool, made.id, DeliveryStatus.SENT, *CHATS)
    await land(telewarm.pool, made.id)
    await telewarm.pool.execute("UPDATE broadcast SET ended_at = ended_at - $1::interval", timedelta(hours=hours))


async def count(telewarm: Telewarm) -> int:
    return len(await telewarm.broadcasts.page())


@pytest.mark.usefixtures("session")
async def test_the_same_in_another_order_and_form_is_the_same(idle_telewarm: Telewarm, tmp_path: Path) -> None:
    first = await submit(idle_telewarm)
    lines = "\n".join(map(str, [*reversed(CHATS), CHATS[0]]))
    (tmp_path / "chats.csv").write_text(f"chat_id\n{lines}\n")

    for recipients in (stream(lines.encode()), tmp_path / "chats.csv", [*reversed(CHATS)]):
        again = await idle_telewarm.submit(
            "bot-0", MessageSet(text="Hello"), recipients, SendPlan(name="x", per_second=3)
        )
        assert (again.resumed, [one.id for one in again.broadcasts]) == (True, [first.id])
    assert await count(idle_telewarm) == 1
    assert await recipients_of(idle_telewarm.pool, first.id) == sorted(CHATS)


@pytest.mark.usefixtures("session")
async def test_what_recipients_would_see_differently_is_another(idle_telewarm: Telewarm) -> None:
    await submit(idle_telewarm)
    for message in (
        MessageSet(text="Hello."),
        MessageSet(text="Hello", disable_notification=True),
        MessageSet(text="Hello", protect_content=True),
        MessageSet(text="Hello", reply_markup={"inline_keyboard": [[{"text": "a", "url": "https://a.b"}]]}),
    ):
        assert not (await idle_telewarm.submit("bot-0", message, CHATS)).resumed
    assert not (await idle_telewarm.submit("bot-0", "Hello", CHATS[:4])).resumed
    assert await count(idle_telewarm) == 6


async def test_an_item_that_was_added_anew_is_the_same_message(idle_telewarm: Telewarm, session: BotSession) -> None:
    first, second = await add_photos(idle_telewarm, session, 2)
    made = await idle_telewarm.submit("bot-0", message_of(first), CHATS)
    assert not (await idle_telewarm.submit("bot-0", message_of(second), CHATS)).resumed
    assert (await idle_telewarm.submit("bot-0", message_of(first), CHATS)).broadcasts == made.broadcasts


async def test_several_bots_go_on_together(idle_telewarm: Telewarm, session: BotSession) -> None:
    await add_bot(idle_telewarm, 1)
    bots = [session.bot.slug, "bot-1"]
    rows = f"chat_id,bot\n{READER},bot-0\n{READER + 1},bot-1\n".encode()

    first = await idle_telewarm.submit(bots, "Hello", stream(rows))
    again = await idle_telewarm.submit(bots, "Hello", stream(rows))
    other = await idle_telewarm.submit(bots, "Hello", stream(f"chat_id,bot\n{READER},bot-1\n".encode()))

    assert [one.state for one in first.broadcasts] == [RUNNING, RUNNING]
    assert again.resumed
    assert [one.id for one in again.broadcasts] == [one.id for one in first.broadcasts]
    assert len(other.broadcasts) == 1  # a bot without recipients has no broadcast
    assert await count(idle_telewarm) == 3


@pytest.mark.usefixtures("session")
async def test_what_was_finished_within_a_day_is_refused_unless_it_is_meant(idle_telewarm: Telewarm) -> None:
    first = await submit(idle_telewarm)
    await ended(idle_telewarm, first)

    with pytest.raises(AlreadySent, match=r"ended at .*5 of 5 sent.*again=True") as refused:
        await submit(idle_telewarm)
    assert refused.value.earlier.broadcasts[0].id == first.id
    assert await count(idle_telewarm) == 1
    again = await submit(idle_telewarm, again=True)
    assert again.id != first.id
    assert (await submit(idle_telewarm, again=True)).id == again.id  # repeated with it, it goes on as well


@pytest.mark.usefixtures("session")
async def test_after_a_day_or_when_nobody_got_it_it_is_sent_without_a_question(idle_telewarm: Telewarm) -> None:
    await ended(idle_telewarm, await submit(idle_telewarm), hours=25)
    second = await submit(idle_telewarm)
    await idle_telewarm.broadcasts.cancel(second.id)
    third = await submit(idle_telewarm)
    assert third.id != second.id
    await deliver(idle_telewarm.pool, third.id, DeliveryStatus.SENT, CHATS[0])
    await idle_telewarm.broadcasts.cancel(third.id)
    with pytest.raises(AlreadySent, match="1 of 5 sent"):
        await submit(idle_telewarm)


@pytest.mark.usefixtures("session")
async def test_one_for_another_time_is_another_and_the_same_time_the_same(idle_telewarm: Telewarm) -> None:
    tomorrow, later = (
        SendPlan(starts_at=clock.now() + timedelta(days=1)),
        SendPlan(starts_at=clock.now() + timedelta(days=2)),
    )
    first = await submit(idle_telewarm, plan=tomorrow)
    assert first.state is SCHEDULED
    assert (await submit(idle_telewarm, plan=tomorrow)).id == first.id
    for other in (later, SendPlan()):
        with pytest.raises(AlreadySent, match="is to start at another time"):
            await submit(idle_telewarm, plan=other)
        made = await submit(idle_telewarm, plan=other, again=True)
        assert (await submit(idle_telewarm, plan=other)).id == made.id
    assert await count(idle_telewarm) == 3


@pytest.mark.usefixtures("session")
async def test_a_schedule_repeated_after_its_time_has_come_goes_on(idle_telewarm: Telewarm) -> None:
    plan = SendPlan(starts_at=clock.now() - timedelta(hours=1))
    with pytest.raises(UsageError, match="has passed"):
        await submit(idle_telewarm, plan=plan)
    assert await count(idle_telewarm) == 0
    first = await submit(idle_telewarm)
    await idle_telewarm.pool.execute("UPDATE broadcast SET starts_at = $1", plan.starts_at)
    assert (await submit(idle_telewarm, plan=plan)).id == first.id


@pytest.mark.usefixtures("session")
async def test_a_paused_one_is_found_and_stays_paused(idle_telewarm: Telewarm) -> None:
    first = await submit(idle_telewarm)
    await idle_telewarm.broadcasts.pause(first.id)
    again = await submit(idle_telewarm)
    assert (again.id, again.state) == (first.id, PAUSED)


@pytest.mark.usefixtures("session")
async def test_submitted_at_once_by_many_it_is_one(idle_telewarm: Telewarm) -> None:
    made = await asyncio.gather(*(submit(idle_telewarm) for _ in range(5)))
    assert len({one.id for one in made}) == 1
    assert await count(idle_telewarm) == 1


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("rows", [b"", b"@ann\n", b"name\nAna\n"])
async def test_a_list_without_a_chat_id_leaves_nothing(idle_telewarm: Telewarm, rows: bytes) -> None:
    with pytest.raises(UsageError):
        await idle_telewarm.submit("bot-0", "Hello", stream(rows))
    assert await count(idle_telewarm) == 0


@pytest.mark.usefixtures("session")
async def test_a_guessed_column_is_not_sent_without_a_look(idle_telewarm: Telewarm) -> None:
    def rows() -> bytes:
        return "\n".join(["when,who", *(f"May,{chat}" for chat in CHATS)]).encode()

    loaded = await idle_telewarm.broadcasts.create([await idle_telewarm.bots.by_slug("bot-0")], MessageSet(text="x"))
    guessed = (await idle_telewarm.broadcasts.load(loaded[0].id, stream(rows()))).guess
    assert guessed is not None
    with pytest.raises(Conflict, match="guessed"):
        await idle_telewarm.submit("bot-0", "Hello", stream(rows()))
    assert await count(idle_telewarm) == 1


async def test_drafts_of_a_dead_process_are_deleted_and_those_of_a_living_one_are_not(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    alive = await idle_telewarm.pool.fetchval("SELECT id FROM lease")
    for loader in (alive, UUID(int=1), None):
        made = await broadcasts.insert(
            idle_telewarm.pool, bot_id=session.bot.id, message=MessageSet(text="x"), loader=loader
        )
        await idle_telewarm.broadcasts.add(made.id, [ChatId(READER)])

    assert await submissions.delete_abandoned(idle_telewarm.pool) == 1
    assert await count(idle_telewarm) == 2
    assert await idle_telewarm.pool.fetchval("SELECT count(*) FROM recipient") == 2
    assert await submissions.delete_abandoned(idle_telewarm.pool) == 0


async def test_a_broadcast_is_made_once_with_its_key(idle_telewarm: Telewarm, session: BotSession) -> None:
    create = idle_telewarm.broadcasts.create
    made = await asyncio.gather(*(create([session], MessageSet(text="x"), key="may") for _ in range(4)))
    assert len({one.id for [one] in made}) == 1
    with pytest.raises(Conflict, match="another broadcast"):
        await create([session], MessageSet(text="y"), key="may")
    with pytest.raises(UsageError, match="idempotency key"):
        await create([session], MessageSet(text="y"), key="")
    other = await add_bot(idle_telewarm, 1)
    both = await create([other, session], MessageSet(text="x"), key="may")
    assert await create([other, session], MessageSet(text="x"), key="may") == both
    assert len(both) == 2


@pytest.mark.usefixtures("session")
async def test_a_guessed_column_is_not_sent_to_unless_it_is_said_or_confirmed(idle_telewarm: Telewarm) -> None:
    listed = f"No,Name,Ref\n1,Ann,{READER}\n2,Bob,{READER + 1}\n".encode()

    with pytest.raises(Conflict, match="guessed"):
        await idle_telewarm.submit("bot-0", "Hello", stream(listed))
    assert await count(idle_telewarm) == 0

    said = await idle_telewarm.submit("bot-0", "Hello", stream(listed), column="Ref")
    confirmed = await idle_telewarm.submit("bot-0", "Hello", stream(listed), confirm=True)

    assert said.broadcasts[0].recipients == 2
    assert (confirmed.resumed, confirmed.broadcasts[0].id) == (True, said.broadcasts[0].id)


async def test_a_draft_that_was_loaded_and_started_by_hand_is_found_as_well(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    [made] = await idle_telewarm.broadcasts.create([session], MessageSet(text="Hello"))
    await idle_telewarm.broadcasts.load(made.id, stream("\n".join(map(str, CHATS)).encode()))
    await idle_telewarm.broadcasts.start(made.id)

    again = await idle_telewarm.submit("bot-0", "Hello", CHATS)
    assert (again.resumed, [one.id for one in again.broadcasts]) == (True, [made.id])

    await ended(idle_telewarm, made)
    with pytest.raises(AlreadySent, match=f"Broadcast {made.id} to the same list"):
        await submit(idle_telewarm)
    assert await count(idle_telewarm) == 1
