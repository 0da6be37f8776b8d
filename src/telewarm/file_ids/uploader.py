"""The one way to a file id: down the ladder of ways, from the cheapest to the one that always works."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from telewarm import clock, metrics
from telewarm.errors import StoreError, TelegramClientError, TelegramError
from telewarm.file_ids import method_selector
from telewarm.file_ids.method_selector import MethodSelector, Route
from telewarm.file_ids.thumbnail_cache import ThumbnailCache
from telewarm.models import Blob, ChatId, ClaimedMedia, MessageId, MessageRef, SentMessage, UploadMethod, UploadResult
from telewarm.probe import filename_for
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.object_store import BlobStore
from telewarm.telegram.client import BotApi
from telewarm.telegram.effect import maybe_delivered
from telewarm.telegram.files import FileUpload, LocalPathRef, MediaFile, Thumbnail, UrlRef
from telewarm.telegram.values import SendOptions

log = structlog.get_logger(__name__)

SILENT = SendOptions(disable_notification=True)
URL_SECONDS = 3600  # that a presigned URL lives at least: Telegram fetches it at once, or not


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadTask:
    """An item on its way to a chat."""

    item: ClaimedMedia
    api: BotApi
    chat_id: ChatId
    caption: str | None = None
    options: SendOptions = SILENT
    warmup: bool = True

    @property
    def filename(self) -> str:
        return filename_for(self.item.name, self.item.blob.facts, self.item.kind)

    async def forward(self) -> SentMessage:
        origin = self.item.origin
        assert origin is not None  # noqa: S101 - else there is no such route
        return await self.api.forward_message(self.chat_id, origin.chat_id, origin.message_id, options=self.options)

    async def send(self, file: MediaFile) -> SentMessage:
        """With all that the probe found: the file id freezes it."""
        item = self.item
        return await self.api.send_media(
            item.kind, self.chat_id, file, facts=item.blob.facts, caption=self.caption, options=self.options
        )


class FileIdUploader:
    """Needs the store for thumbnails and URLs, the spool for bytes; the caller holds the item's lease.

    `local_server`: the Bot API server runs with --local, so it may be able to read the spool itself.
    `urls`: let Telegram fetch files from the store, where nothing is lost by it and the store can sign URLs.
    """

    def __init__(self, *, spool: BlobCache, store: BlobStore, local_server: bool = False, urls: bool = False) -> None:
        self._spool = spool
        self._store = store
        self._thumbnails = ThumbnailCache(store)
        self._paths = local_server
        self._urls = urls and store.presigned_get("probe", expires=URL_SECONDS, now=clock.now()) is not None
        self._url_number = itertools.count(secrets.randbelow(URL_SECONDS))
        self._ways = MethodSelector()
        self._copies = MethodSelector()  # apart: a message that may not be forwarded may still be copied

    async def warm(self, item: ClaimedMedia, api: BotApi, chat_id: ChatId) -> UploadResult:
        """Get a file id through a warm-up chat: forward what was uploaded there before, else send the bytes."""
        errand = UploadTask(item=item, api=api, chat_id=chat_id)
        return await self._try_methods(errand, self._routes(item, api.telegram_id))

    async def deliver(
        self, item: ClaimedMedia, api: BotApi, chat_id: ChatId, *, caption: str | None, options: SendOptions
    ) -> UploadResult:
        """Get a file id by sending the bytes to a recipient who waits for them; never twice."""
        errand = UploadTask(item=item, api=api, chat_id=chat_id, caption=caption, options=options, warmup=False)
        return await self._try_methods(errand, self._delivery_routes(item, api.telegram_id))

    async def copy(
        self, origin: MessageRef, api: BotApi, chat_id: ChatId, *, caption: str | None, options: SendOptions
    ) -> MessageId | None:
        """Send a copy of a warm-up message, with this caption or none. None: there is nothing to copy, or no right to.

        Raises ChatUnreachable only when it is surely the recipient who cannot be reached, and not the warm-up chat.
        """
        route = Route(api.telegram_id, UploadMethod.FORWARD, origin.chat_id)
        if not self._copies.enter(route, began := clock.monotonic()):
            return None
        try:
            message_id = await api.copy_message(
                chat_id, origin.chat_id, origin.message_id, caption=caption or "", options=options
            )
        except TelegramClientError as error:
            if not method_selector.cannot_copy(error):
                raise
            closed = method_selector.shuts_origin(error, to=chat_id)
            if closed:
                self._copies.failed(route, began=began, now=clock.monotonic())
            log.info("media_copy_failed", origin=origin.chat_id, closed=closed, error=error.message)
            return None
        self._copies.worked(route)
        return message_id

    def may_copy(self, origin: MessageRef, api: BotApi) -> bool:
        """Whether the bot may copy out of that warm-up chat, as far as we know."""
        return self._copies.is_open(Route(api.telegram_id, UploadMethod.FORWARD, origin.chat_id), clock.monotonic())

    def upload_bytes(self, item: ClaimedMedia, bot: int) -> int:
        """Bytes that a warm-up sends through the Bot API if its first way works. `bot`: Telegram's id of it."""
        return self._bytes(item, self._routes(item, bot))

    def delivery_bytes(self, item: ClaimedMedia, bot: int) -> int:
        """The same of a delivery."""
        return self._bytes(item, self._delivery_routes(item, bot))

    def _bytes(self, item: ClaimedMedia, routes: Sequence[Route]) -> int:
        now = clock.monotonic()
        first = next(route for route in routes if self._ways.is_open(route, now))
        return total_bytes(item.blob) if first.way is UploadMethod.UPLOAD else 0

    def _delivery_routes(self, item: ClaimedMedia, bot: int) -> list[Route]:
        """A forward would tell the recipient where it comes from."""
        return [route for route in self._routes(item, bot) if route.way is not UploadMethod.FORWARD]

    def _routes(self, item: ClaimedMedia, bot: int) -> list[Route]:
        return method_selector.routes(item, bot=bot, paths=self._paths, urls=self._urls)

    async def _try_methods(self, errand: UploadTask, routes: Sequence[Route]) -> UploadResult:
        *cheaper, last = routes
        for route in cheaper:
            if not self._ways.enter(route, began := clock.monotonic()):
                continue
            try:
                return await self._take(route, errand)
            except TelegramError as error:
                twice = not errand.warmup and maybe_delivered(error)
                if twice or not method_selector.falls_back(route.way, error, attempts=errand.item.attempts):
                    raise
                self._learn(route, error, began, errand.item)
        return await self._take(last, errand)

    def _learn(self, route: Route, error: TelegramError, began: float, item: ClaimedMedia) -> None:
        metrics.way_failed(route.way)
        lasting = not method_selector.is_item_error(route.way, error)
        if lasting:
            self._ways.failed(route, began=began, now=clock.monotonic())
        log.info("upload_method_failed", way=route.way, media_id=item.media_id, closed=lasting, error=error.message)

    async def _take(self, route: Route, errand: UploadTask) -> UploadResult:
        """The file id, or whatever the way raises; the bytes are on local disk only where the way needs them."""
        item, way, began = errand.item, route.way, clock.monotonic()
        if way is UploadMethod.FORWARD or way is UploadMethod.URL:
            ready = began
            sent = await (
                errand.forward() if way is UploadMethod.FORWARD else errand.send(UrlRef(url=self._fresh_url(item.blob)))
            )
        else:
            async with self._spool.open(item.blob.sha256, item.blob.storage_key) as path:
                thumbnail = await self._thumbnails.of(item.blob)
                ready = clock.monotonic()
                sent = await (self._by_path if way is UploadMethod.PATH else _by_upload)(errand, path, thumbnail)
        placed = _placed(errand, sent, way, download=ready - began, send=clock.monotonic() - ready)
        self._ways.worked(route)
        metrics.way_taken(way, uploaded=total_bytes(item.blob) if way is UploadMethod.UPLOAD else 0)
        return placed

    async def _by_path(self, errand: UploadTask, path: Path, thumbnail: Thumbnail | None) -> SentMessage:
        with self._spool.named(path, errand.filename) as named:
            return await errand.send(LocalPathRef(path=named, thumbnail=thumbnail))

    def _fresh_url(self, blob: Blob) -> str:
        """One that no attempt had before: Telegram remembers what a URL gave for days, failures too.

        A signature changes with the second, so the lifetime makes the difference between two of the same second.
        """
        number = next(self._url_number)
        if (public := self._store.public_url(blob.storage_key)) is not None:
            return f"{public}?v={clock.now().timestamp():.0f}-{number}"
        expires = URL_SECONDS + number % URL_SECONDS
        url = self._store.presigned_get(blob.storage_key, expires=expires, now=clock.now())
        if url is None:
            raise StoreError("this library has no URLs: it is a folder")
        return url


async def _by_upload(errand: UploadTask, path: Path, thumbnail: Thumbnail | None) -> SentMessage:
    facts = errand.item.blob.facts
    return await errand.send(
        FileUpload(path=path, filename=errand.filename, mime=facts.mime, bytes=facts.bytes, thumbnail=thumbnail)
    )


def total_bytes(blob: Blob) -> int:
    """File bytes of an upload's request: what Telegram's spacing of equal sizes goes by."""
    return blob.facts.bytes + (blob.thumbnail_bytes or 0)


def _placed(errand: UploadTask, sent: SentMessage, way: UploadMethod, *, download: float, send: float) -> UploadResult:
    if sent.file_id is None or sent.kind is None:
        kind = errand.item.kind
        raise TelegramClientError(
            method=f"send {kind}", chat_id=sent.chat_id, status=200, description="the answer holds no file"
        )
    return UploadResult(
        media_id=errand.item.media_id,
        way=way,
        file_id=sent.file_id,
        file_unique_id=sent.file_unique_id,
        kind=sent.kind,
        message=MessageRef(chat_id=sent.chat_id, message_id=sent.message_id),
        in_warmup_chat=errand.warmup,
        name=errand.item.name,
        download=download,
        send=send,
    )
