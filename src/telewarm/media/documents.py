"""Document items: a second media item of the same bytes, for sending it as a file."""

from __future__ import annotations

from msgspec import structs

from telewarm.database import blobs, media, queue_priority
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.errors import NotFound
from telewarm.models import Bot, Kind, MediaId, MessageSet, Part


async def with_documents(pool: Pool, bot: Bot, message: MessageSet) -> MessageSet:
    """Return the message set with documents for the parts that ask for files; missing document items are created.

    Raises NotFound for an item that the bot does not have.
    """
    if not message.as_file and not any(part.as_file for part in message.media):
        return message
    parts = [
        structs.replace(part, media_id=await _document(pool, bot, part), as_file=False)
        if message.as_file or part.as_file
        else part
        for part in message.media
    ]
    return structs.replace(message, media=tuple(parts), as_file=False)


async def _document(pool: Pool, bot: Bot, part: Part) -> MediaId:
    item = await media.get(pool, part.media_id)
    if item.bot_id != bot.id:
        raise NotFound(f"media item {part.media_id} is not in the library of bot {bot.slug!r}")
    if item.kind is Kind.DOCUMENT:
        return item.id
    blob = await blobs.get(pool, item.sha256)
    if blob is not None:
        async with pool.acquire() as connection, connection.transaction():
            handicap = queue_priority.priority_offset(blob.facts.bytes)
            inserted = await media.insert(
                connection, bot_id=bot.id, blob=blob, kind=Kind.DOCUMENT, name=item.name, priority_offset=handicap
            )
            if inserted is not None:
                await enqueue_lane(connection, bot)
                return inserted.item.id
    document = await media.find(pool, bot_id=bot.id, sha256=item.sha256, kind=Kind.DOCUMENT)
    if document is None:
        raise NotFound(f"media item {part.media_id} was deleted in this moment: add its file again")
    return document.id
