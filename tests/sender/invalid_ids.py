"""A bot whose file ids are dead, and what heals it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.database.leases import ProcessLease
from telewarm.flood_control.priority import Priority
from telewarm.models import CachedFileId, ChatId, MediaItem, MediaState, MessageId, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.mail import Content
from telewarm.sending.chat_status import ChatStatusWriter
from telewarm.sending.file_id_cache import FileIdCache
from telewarm.sending.file_id_recovery import FileIdRecovery
from telewarm.sending.send_context import SendLimits
from telewarm.sending.sender import Sender
from telewarm.telegram.values import DEFAULT_OPTIONS, SendOptions
from tests.fixtures.app import READER, Opener, add_bot, add_photos, until_ready


@dataclass(kw_only=True, slots=True)
class InvalidIds:
    """A bot with warm media whose file ids are dead, and no worker that would warm them again."""

    telewarm: Telewarm
    sandbox: Sandbox
    session: BotSession
    healing: FileIdRecovery
    items: list[MediaItem]

    async def heal(
        self,
        number: int = 0,
        *,
        chat_id: ChatId = READER,
        caption: str | None = None,
        options: SendOptions = DEFAULT_OPTIONS,
        patience: float = 10.0,
    ) -> MessageId | None:
        return await self.healing.recover(
            self.session,
            chat_id,
            warm(self.items[number]),
            caption=caption,
            options=options,
            deadline=clock.monotonic() + patience,
            priority=Priority.INTERACTIVE,
        )

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        async with ProcessLease.open(self.telewarm.pool) as lease:
            yield Sender(
                pool=self.telewarm.pool,
                lease=lease,
                uploader=self.telewarm.sender._uploader,
                file_ids=FileIdCache(),
                chat_status=ChatStatusWriter(self.telewarm.pool),
                recovery=self.healing,
                limits=SendLimits(),
            )

    async def states(self) -> list[MediaState]:
        return [(await media.get(self.telewarm.pool, item.id)).state for item in self.items]

    def content(self, message_id: MessageId | None, chat_id: ChatId = READER) -> Content:
        state = self.sandbox.state
        bot = state.bots.open(self.session.bot.telegram_id)
        message = state.mail.box(state.find_chat(bot, str(chat_id)), bot.id).get(chat_id, message_id or 0)
        assert message is not None
        return message.content

    def calls(self, method: str) -> int:
        return self.sandbox.state.stats.total.calls[method]

    @property
    def messages(self) -> int:
        return self.sandbox.state.stats.chats[READER]


def warm(item: MediaItem) -> CachedFileId:
    assert item.file_id is not None
    assert item.sent_kind is not None
    return CachedFileId(media_id=item.id, bot_id=item.bot_id, file_id=item.file_id, kind=item.sent_kind)


def photos(*items: MediaItem) -> MessageSet:
    return MessageSet(media=[Part(media_id=item.id) for item in items])


async def invalid_ids(opener: Opener, sandbox: Sandbox, items: int = 1) -> InvalidIds:
    telewarm = await opener()
    session = await add_bot(telewarm)
    found = await until_ready(telewarm, *await add_photos(telewarm, session, items))
    await telewarm.worker.stop()
    sandbox.state.files.killed.update(item.file_id for item in found if item.file_id)
    healing = FileIdRecovery(
        pool=telewarm.pool,
        bots=telewarm.bots,
        uploader=telewarm.sender._uploader,
        file_ids=telewarm.sender._file_ids,
    )
    return InvalidIds(telewarm=telewarm, sandbox=sandbox, session=session, healing=healing, items=found)
