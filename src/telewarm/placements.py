"""The one way to a file id: take the cheapest way that works. And away with a dead one."""

from __future__ import annotations

from functools import partial

import structlog

from telewarm.database import media
from telewarm.database.connection import Executor
from telewarm.errors import BadRequest, ChatUnreachable, DeadFileId, MessageGone, TelegramRefused
from telewarm.model import Blob, ChatId, Claimed, FileId, MediaId, MessageRef, Placed, Sent, Way
from telewarm.probe import filename_for
from telewarm.store import Spool, Store
from telewarm.telegram import BotApi, ByPath, SendOptions, Upload

log = structlog.get_logger(__name__)

SILENT = SendOptions(disable_notification=True)
FORWARD_FAILS = (MessageGone, ChatUnreachable, DeadFileId, BadRequest)  # then the bytes go up instead


class Placements:
    """Needs the store for thumbnails and the spool for bytes; the caller holds the item's lease.

    `local_server`: the Bot API server runs with --local, so it may be able to read the spool itself.
    """

    def __init__(self, *, spool: Spool, store: Store, local_server: bool = False) -> None:
        self._spool = spool
        self._store = store
        self._server_reads_paths = local_server  # until it turns out that it cannot

    async def warm(self, item: Claimed, api: BotApi, chat_id: ChatId) -> Placed:
        """Get a file id through a warm-up chat: forward what another bot has uploaded, else upload."""
        if item.origin is not None:
            try:
                sent = await api.forward_message(chat_id, item.origin.chat_id, item.origin.message_id, options=SILENT)
                return _placed(item, sent, Way.FORWARD, in_warmup_chat=True)
            except FORWARD_FAILS as error:
                log.info("[MEDIA][PREWARM][FORWARD][FAILED]", media_id=item.media_id, error=error.description)
        sent, way = await self._send_file(item, api, chat_id, caption=None, options=SILENT)
        return _placed(item, sent, way, in_warmup_chat=True)

    async def deliver(
        self, item: Claimed, api: BotApi, chat_id: ChatId, *, caption: str | None, options: SendOptions
    ) -> Placed:
        """Get a file id by sending the bytes to a recipient who waits for them."""
        sent, way = await self._send_file(item, api, chat_id, caption=caption, options=options)
        return _placed(item, sent, way, in_warmup_chat=False)

    async def _send_file(
        self, item: Claimed, api: BotApi, chat_id: ChatId, *, caption: str | None, options: SendOptions
    ) -> tuple[Sent, Way]:
        """Send the file with all that the probe found: the file id freezes it."""
        blob = item.blob
        send = partial(api.send_media, item.kind, chat_id, facts=blob.facts, caption=caption, options=options)
        async with self._spool.open(blob.sha256, blob.storage_key) as path:
            if self._server_reads_paths:
                try:
                    return await send(ByPath(path=path)), Way.PATH
                except (DeadFileId, BadRequest) as error:
                    self._server_reads_paths = False
                    log.warning("[MEDIA][PATH][FAILED]", media_id=item.media_id, error=error.description)
            upload = Upload(
                path=path,
                filename=filename_for(item.name, blob.facts, item.kind),
                mime=blob.facts.mime,
                bytes=blob.facts.bytes,
                thumbnail=await self._thumbnail(blob),
            )
            return await send(upload), Way.UPLOAD

    async def _thumbnail(self, blob: Blob) -> bytes | None:
        if blob.thumbnail_key is None:
            return None
        return b"".join([chunk async for chunk in self._store.stream(blob.thumbnail_key)])


async def forget(db: Executor, media_id: MediaId, file_id: FileId) -> bool:
    """A dead file id becomes due again, unless it was replaced already. Whether this call dropped it."""
    return await media.forget(db, media_id=media_id, file_id=file_id)


def _placed(item: Claimed, sent: Sent, way: Way, *, in_warmup_chat: bool) -> Placed:
    if sent.file_id is None or sent.kind is None:
        raise TelegramRefused(
            method=f"send {item.kind}", chat_id=sent.chat_id, status=200, description="the answer holds no file"
        )
    return Placed(
        media_id=item.media_id,
        way=way,
        file_id=sent.file_id,
        file_unique_id=sent.file_unique_id,
        kind=sent.kind,
        message=MessageRef(chat_id=sent.chat_id, message_id=sent.message_id),
        in_warmup_chat=in_warmup_chat,
    )
