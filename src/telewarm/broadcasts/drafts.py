"""Drafts of broadcasts: one for each bot, with media of its own library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from uuid import UUID

import structlog
from msgspec import structs

from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.plans import SendPlan
from telewarm.database import broadcasts, deletions, submissions
from telewarm.database.broadcasts import DraftOptions, IdempotencyKey
from telewarm.database.connection import Pool
from telewarm.errors import NotFound
from telewarm.media.library import MediaLibrary
from telewarm.models import Broadcast, MediaId, MessageSet
from telewarm.sending.messages import check, plan

log = structlog.get_logger(__name__)


class DraftWriter:
    """Creates drafts."""

    def __init__(self, *, pool: Pool, library: MediaLibrary) -> None:
        self._pool = pool
        self._library = library

    async def create(
        self,
        bots: Sequence[BotSession],
        message: MessageSet,
        plan: SendPlan,
        *,
        key: IdempotencyKey | None = None,
        loader: UUID | None = None,
    ) -> list[Broadcast]:
        """Create a draft for each bot from checked arguments, or return those of an earlier call with the same `key`.

        `loader`: the lease of the process that submits it as a whole.
        """
        check(message)
        messages = await self._messages(bots, message)
        options = DraftOptions(name=plan.name, gate=plan.gate, per_second=plan.per_second, starts_at=plan.starts_at)
        async with self._pool.acquire() as connection, connection.transaction():
            if key is not None:
                await submissions.lock(connection, sha256(f"{bots[0].bot.id} {key.text}".encode()).digest())
                if found := await broadcasts.by_idempotency_key(connection, bots[0].bot.id, key):
                    return found
            for session, own in zip(bots, messages, strict=True):
                await deletions.lock_media(connection, session.bot.id, [part.media_id for part in own.media])
            made = [
                await broadcasts.insert(
                    connection,
                    bot_id=session.bot.id,
                    message=own,
                    options=options,
                    loader=loader,
                    key=key if session is bots[0] else None,
                )
                for session, own in zip(bots, messages, strict=True)
            ]
            if len(made) > 1:
                made = await broadcasts.create_group(connection, [broadcast.id for broadcast in made])
        for session, broadcast in zip(bots, made, strict=True):
            log.info("broadcast_created", bot=session.bot.slug, broadcast_id=broadcast.id, group_id=broadcast.group_id)
        return made

    async def _messages(self, bots: Sequence[BotSession], message: MessageSet) -> list[MessageSet]:
        """Return the message for each bot, with media of its own library."""
        source = bots[0].bot
        message = await self._library.as_files(source, message)
        media_ids = [part.media_id for part in message.media]
        kinds = await broadcasts.send_kinds(self._pool, bot_id=source.id, media_ids=media_ids)
        if missing := sorted(set(media_ids) - kinds.keys()):
            listed = ", ".join(map(str, missing))
            raise NotFound(f"bot {source.slug!r} has no media item {listed} in its library; add it there first")
        plan(message, kinds)
        messages = [message]
        for session in bots[1:]:
            if media_ids:
                await self._library.share(source, session.bot, media_ids)
            twins = await broadcasts.equivalent_media(self._pool, bot_id=session.bot.id, media_ids=media_ids)
            messages.append(_with_media(message, twins))
        return messages


def _with_media(message: MessageSet, twins: Mapping[MediaId, MediaId]) -> MessageSet:
    media = tuple(structs.replace(part, media_id=twins[part.media_id]) for part in message.media)
    return structs.replace(message, media=media)
