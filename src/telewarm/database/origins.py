"""Sources of forwards: columns of the table `media`."""

from __future__ import annotations

from dataclasses import dataclass

from telewarm.database.connection import Connection
from telewarm.models import ChatId, FileId, MediaId, MessageId, MessageRef


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardSource:
    """File id, and the warm-up message if there is one."""

    file_id: FileId | None
    message: MessageRef | None


async def lock(connection: Connection, media_id: MediaId) -> ForwardSource | None:
    """Return an item's source, locked until the transaction ends; None: there is no such item."""
    row = await connection.fetchrow(
        "SELECT file_id, warmup_chat, warmup_message_id FROM media WHERE id = $1 FOR NO KEY UPDATE", media_id
    )
    if row is None:
        return None
    chat, message = row["warmup_chat"], row["warmup_message_id"]
    known = chat is not None and message is not None
    return ForwardSource(
        file_id=None if row["file_id"] is None else FileId(row["file_id"]),
        message=MessageRef(chat_id=ChatId(chat), message_id=MessageId(message)) if known else None,
    )
