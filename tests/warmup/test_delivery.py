"""A recipient who waits for the bytes, or for a copy: which way they go, and never by two."""

from __future__ import annotations

from dataclasses import replace

import pytest

from telewarm.bots.sessions import BotSession
from telewarm.database.leases import ProcessLease
from telewarm.database.warmups import claim_one
from telewarm.errors import BadRequest, TelegramClientError, TelegramUnreachable
from telewarm.file_ids.method_selector import cannot_copy, is_origin_error
from telewarm.models import ChatId, ClaimedMedia, Kind, UploadMethod, UploadResult
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.storage.config import S3Config
from telewarm.telegram.values import SendOptions
from tests.fixtures.app import READER, WARMUP_CHAT, Opener, add_bot, add_photos
from tests.warmup.test_ways import (
    FAULT,
    FLOOD,
    GONE,
    PROTECTED,
    TOKEN,
    UNFETCHED,
    UNREADABLE,
    bucket_environ,
    refused,
    unreachable,
)


async def take(telewarm: Telewarm, lease: ProcessLease, session: BotSession, seed: int) -> ClaimedMedia:
    """A photo that nobody warms, in our hand."""
    [media_id] = await add_photos(telewarm, session, 1, first=seed)
    item = await claim_one(telewarm.pool, bot_id=session.bot.id, media_id=media_id, lease_id=lease.id)
    assert item is not None
    return item


async def deliver(telewarm: Telewarm, session: BotSession, item: ClaimedMedia) -> UploadResult:
    return await telewarm.sender._uploader.deliver(item, session.api, READER, caption="hello", options=SendOptions())


async def test_a_recipient_gets_by_url_what_the_bucket_serves(
    telewarm_with: Opener, sandbox: Sandbox, bucket: S3Config
) -> None:
    telewarm = await telewarm_with(bucket_environ(bucket), worker=False)
    session = await add_bot(telewarm)
    async with ProcessLease.open(telewarm.pool) as lease:
        uploaded = await deliver(telewarm, session, item := await take(telewarm, lease, session, 30))

    stats = sandbox.state.stats
    assert (uploaded.way, uploaded.in_warmup_chat, uploaded.kind) == (UploadMethod.URL, False, Kind.PHOTO)
    assert (stats.total.fetches, stats.total.uploads, stats.chats[READER]) == (1, 0, 1)
    assert telewarm.sender._uploader.delivery_bytes(item, session.bot.telegram_id) == 0


async def test_a_recipient_gets_the_bytes_when_telegram_cannot_fetch_them(
    telewarm_with: Opener, sandbox: Sandbox, rclone: S3Config
) -> None:
    telewarm = await telewarm_with(bucket_environ(rclone), worker=False)
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="error", code=400, description=UNREADABLE, method="sendPhoto"))
    async with ProcessLease.open(telewarm.pool) as lease:
        uploaded = await deliver(telewarm, session, item := await take(telewarm, lease, session, 31))

    assert uploaded.way is UploadMethod.UPLOAD
    assert sandbox.state.stats.chats[READER] == 1
    size = telewarm.sender._uploader.delivery_bytes(item, session.bot.telegram_id)
    assert size == item.blob.facts.bytes  # the next goes up at once


async def test_a_recipient_never_gets_a_file_twice_by_two_ways(
    telewarm_with: Opener, sandbox: Sandbox, rclone: S3Config
) -> None:
    """A warm-up that has failed often goes on to the next way when nobody answers; a delivery may have arrived."""
    telewarm = await telewarm_with(bucket_environ(rclone), worker=False)
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="reset", when="after", method="sendPhoto"))
    async with ProcessLease.open(telewarm.pool) as lease:
        item = replace(await take(telewarm, lease, session, 32), attempts=5)
        with pytest.raises(TelegramUnreachable):
            await deliver(telewarm, session, item)

    assert sandbox.state.stats.chats[READER] == 1


@pytest.mark.parametrize(
    ("error", "chat_id", "expected"),
    [
        (GONE, READER, (True, False)),
        (UNFETCHED, READER, (True, False)),
        (PROTECTED, READER, (True, True)),
        (refused(BadRequest, "Bad Request: the message can't be copied"), READER, (True, False)),
        (refused(BadRequest, "Bad Request: can't parse entities: no"), READER, (False, False)),
        (refused(BadRequest, "Bad Request: message to be replied not found"), READER, (False, False)),
        (unreachable("blocked"), READER, (False, False)),
        (unreachable("deactivated"), READER, (False, False)),
        (unreachable("not_found"), READER, (True, False)),
        (unreachable("kicked"), READER, (True, True)),
        (unreachable("kicked"), WARMUP_CHAT, (True, False)),
        (FLOOD, READER, (False, False)),
        (FAULT, READER, (False, False)),
        (TOKEN, READER, (False, False)),
    ],
)
def test_an_error_says_whether_bytes_may_go_where_a_copy_did_not_and_whether_the_next_copy_may(
    error: TelegramClientError, chat_id: ChatId, expected: tuple[bool, bool]
) -> None:
    assert (cannot_copy(error), is_origin_error(error, to=chat_id)) == expected
