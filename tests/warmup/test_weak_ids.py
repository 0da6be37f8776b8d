"""Weak ids: an upload whose file_unique_id may not last is made again, as often as the settings say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from telewarm.bots.sessions import BotSession
from telewarm.database.leases import ProcessLease
from telewarm.models import UploadResult
from telewarm.runtime import Telewarm
from telewarm.telegram.client import BotApi
from telewarm.telegram.transport import Request, Response
from telewarm.warmup.policy import RetryLimits
from telewarm.warmup.work import WarmupWork
from tests.fixtures.app import WARMUP_CHAT, add_bot, add_photos

WEAK, WHOLE = "A" * 10, "AQADAgATqRsAAwI"


class Answers:
    """A Bot API whose photos get these unique ids, one after the other."""

    def __init__(self, unique_ids: Sequence[str]) -> None:
        self.left = list(unique_ids)
        self.calls = 0

    async def __call__(self, request: Request) -> Response:
        self.calls += 1
        photo = [{"file_id": f"id-{self.calls}", "file_unique_id": self.left.pop(0)}]
        message = {"message_id": self.calls, "chat": {"id": request.chat_id, "type": "channel"}, "photo": photo}
        return Response(status=200, body=json.dumps({"ok": True, "result": message}).encode())


@pytest.mark.parametrize(
    ("again", "unique_ids", "calls"),
    [
        (0, [WEAK, WHOLE], 1),
        (1, [WEAK, WHOLE], 2),
        (2, [WHOLE, WEAK], 1),
        (2, [WEAK, WEAK, WEAK, WHOLE], 3),
    ],
    ids=["not asked for", "whole at the second", "whole at once", "weak to the end"],
)
async def test_a_weak_id_is_uploaded_again_as_often_as_asked_for_and_the_last_one_kept(
    idle_telewarm: Telewarm, again: int, unique_ids: list[str], calls: int
) -> None:
    session: BotSession = await add_bot(idle_telewarm)
    await add_photos(idle_telewarm, session, 1)
    wire = Answers(unique_ids)
    async with ProcessLease.open(idle_telewarm.pool) as lease:
        work = WarmupWork(
            pool=idle_telewarm.pool,
            lease=lease,
            session=replace(session, api=BotApi(wire, session.bot.token)),
            uploader=idle_telewarm.sender._uploader,
            retries=RetryLimits(limit=8, base_seconds=1, max_seconds=1, weak_id_attempts=again),
        )
        [job] = await work.claim(5)
        uploaded = await work.do(job.item, WARMUP_CHAT)

    assert wire.calls == calls
    assert isinstance(uploaded, UploadResult)
    assert (uploaded.file_id, uploaded.file_unique_id) == (f"id-{calls}", unique_ids[calls - 1])
