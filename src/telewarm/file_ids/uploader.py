"""Uploader: obtains a file id by the cheapest method that works: forward, local path, URL, upload."""

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

SILENT_OPTIONS = SendOptions(disable_notification=True)
URL_TTL_SECONDS = 3600  # minimum lifetime of a presigned URL: Telegram fetches it at once or not at all


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadTask:
    """An item to send to a chat."""

    item: ClaimedMedia
    api: BotApi
    chat_id: ChatId
    caption: str | None = None
    options: SendOptions = SILENT_OPTIONS
    warmup: bool = True

    @property
    def filename(self) -> str:
        """File name that recipients see."""
        return filename_for(self.item.name, self.item.blob.facts, self.item.kind)

    async def forward(self) -> SentMessage:
        """Forward the warm-up message of another bot."""
        origin = self.item.origin
        assert origin is not None  # noqa: S101 - else there is no such route
        return await self.api.forward_message(self.chat_id, origin.chat_id, origin.message_id, options=self.options)

    async def send(self, file: MediaFile) -> SentMessage:
        """Send the file with all metadata of the probe, since the file id keeps it for ever."""
        item = self.item
        return await self.api.send_media(
            item.kind, self.chat_id, file, facts=item.blob.facts, caption=self.caption, options=self.options
        )


class FileIdUploader:
    """Obtains file ids; the caller holds the item's lease.

    `local_server`: the Bot API server runs with --local and may read the disk cache itself. `urls`: let Telegram fetch
    files from the store, where nothing is lost by it and the store can sign URLs.
    """

    def __init__(
        self, *, disk_cache: BlobCache, store: BlobStore, local_server: bool = False, urls: bool = False
    ) -> None:
        self._disk_cache = disk_cache
        self._store = store
        self._thumbnails = ThumbnailCache(store)
        self._use_local_paths = local_server
        self._use_urls = urls and store.presigned_get("probe", expires=URL_TTL_SECONDS, now=clock.now()) is not None
        self._url_number = itertools.count(secrets.randbelow(URL_TTL_SECONDS))
        self._selector = MethodSelector()
        self._copy_selector = MethodSelector()  # separate: a message that may not be forwarded may still be copied

    async def warm(self, item: ClaimedMedia, api: BotApi, chat_id: ChatId) -> UploadResult:
        """Obtain a file id through a warm-up chat: forward an earlier upload, else send the bytes."""
        task = UploadTask(item=item, api=api, chat_id=chat_id)
        return await self._try_methods(task, self._routes(item, api.telegram_id))

    async def deliver(
        self, item: ClaimedMedia, api: BotApi, chat_id: ChatId, *, caption: str | None, options: SendOptions
    ) -> UploadResult:
        """Obtain a file id by sending the bytes to a waiting recipient, never twice."""
        task = UploadTask(item=item, api=api, chat_id=chat_id, caption=caption, options=options, warmup=False)
        return await self._try_methods(task, self._delivery_routes(item, api.telegram_id))

    async def copy(
        self, origin: MessageRef, api: BotApi, chat_id: ChatId, *, caption: str | None, options: SendOptions
    ) -> MessageId | None:
        """Send a copy of a warm-up message with this caption or none.

        None: there is no message, or no right to copy it.

        Raises ChatUnreachable only when the recipient is surely the unreachable chat, and not the warm-up chat.
        """
        route = Route(api.telegram_id, UploadMethod.FORWARD, origin.chat_id)
        if not self._copy_selector.try_acquire(route, began := clock.monotonic()):
            return None
        try:
            message_id = await api.copy_message(
                chat_id, origin.chat_id, origin.message_id, caption=caption or "", options=options
            )
        except TelegramClientError as error:
            if not method_selector.cannot_copy(error):
                raise
            closed = method_selector.is_origin_error(error, to=chat_id)
            if closed:
                self._copy_selector.failed(route, started_at=began, now=clock.monotonic())
            log.info("media_copy_failed", origin=origin.chat_id, closed=closed, error=error.message)
            return None
        self._copy_selector.succeeded(route)
        return message_id

    def may_copy(self, origin: MessageRef, api: BotApi) -> bool:
        """Return whether the bot may copy from that warm-up chat, as far as is known."""
        return self._copy_selector.is_available(
            Route(api.telegram_id, UploadMethod.FORWARD, origin.chat_id), clock.monotonic()
        )

    def upload_bytes(self, item: ClaimedMedia, bot: int) -> int:
        """Return the bytes that a warm-up uploads if its first method works. `bot`: Telegram's id of the bot."""
        return self._bytes(item, self._routes(item, bot))

    def delivery_bytes(self, item: ClaimedMedia, bot: int) -> int:
        """Return the bytes that a delivery uploads if its first method works."""
        return self._bytes(item, self._delivery_routes(item, bot))

    def _bytes(self, item: ClaimedMedia, routes: Sequence[Route]) -> int:
        now = clock.monotonic()
        first = next(route for route in routes if self._selector.is_available(route, now))
        return total_bytes(item.blob) if first.method is UploadMethod.UPLOAD else 0

    def _delivery_routes(self, item: ClaimedMedia, bot: int) -> list[Route]:
        """Return the routes without forwards, which would show the recipient their origin."""
        return [route for route in self._routes(item, bot) if route.method is not UploadMethod.FORWARD]

    def _routes(self, item: ClaimedMedia, bot: int) -> list[Route]:
        return method_selector.routes(item, bot=bot, paths=self._use_local_paths, urls=self._use_urls)

    async def _try_methods(self, task: UploadTask, routes: Sequence[Route]) -> UploadResult:
        *cheaper, last = routes
        for route in cheaper:
            if not self._selector.try_acquire(route, began := clock.monotonic()):
                continue
            try:
                return await self._run_method(route, task)
            except TelegramError as error:
                twice = not task.warmup and maybe_delivered(error)
                if twice or not method_selector.should_fall_back(route.method, error, attempts=task.item.attempts):
                    raise
                self._record_failure(route, error, began, task.item)
        return await self._run_method(last, task)

    def _record_failure(self, route: Route, error: TelegramError, started_at: float, item: ClaimedMedia) -> None:
        metrics.way_failed(route.method)
        lasting = not method_selector.is_item_error(route.method, error)
        if lasting:
            self._selector.failed(route, started_at=started_at, now=clock.monotonic())
        log.info("upload_method_failed", way=route.method, media_id=item.media_id, closed=lasting, error=error.message)

    async def _run_method(self, route: Route, task: UploadTask) -> UploadResult:
        """Obtain the file id by one method. Bytes are put on the local disk only where the method needs them."""
        item, way, began = task.item, route.method, clock.monotonic()
        if way is UploadMethod.FORWARD or way is UploadMethod.URL:
            ready = began
            sent = await (
                task.forward() if way is UploadMethod.FORWARD else task.send(UrlRef(url=self._fresh_url(item.blob)))
            )
        else:
            async with self._disk_cache.open(item.blob.sha256, item.blob.storage_key) as path:
                thumbnail = await self._thumbnails.get(item.blob)
                ready = clock.monotonic()
                sent = await (self._by_path if way is UploadMethod.PATH else _by_upload)(task, path, thumbnail)
        result = _upload_result(task, sent, way, download=ready - began, send=clock.monotonic() - ready)
        self._selector.succeeded(route)
        metrics.way_taken(way, uploaded=total_bytes(item.blob) if way is UploadMethod.UPLOAD else 0)
        return result

    async def _by_path(self, task: UploadTask, path: Path, thumbnail: Thumbnail | None) -> SentMessage:
        with self._disk_cache.named(path, task.filename) as named:
            return await task.send(LocalPathRef(path=named, thumbnail=thumbnail))

    def _fresh_url(self, blob: Blob) -> str:
        """Return a URL that no attempt had before: Telegram caches what a URL returned for days, failures too.

        A signature changes every second; within a second, the lifetime makes the difference.
        """
        number = next(self._url_number)
        if (public := self._store.public_url(blob.storage_key)) is not None:
            return f"{public}?v={clock.now().timestamp():.0f}-{number}"
        expires = URL_TTL_SECONDS + number % URL_TTL_SECONDS
        url = self._store.presigned_get(blob.storage_key, expires=expires, now=clock.now())
        if url is None:
            raise StoreError("this library has no URLs: it is a folder")
        return url


async def _by_upload(task: UploadTask, path: Path, thumbnail: Thumbnail | None) -> SentMessage:
    facts = task.item.blob.facts
    return await task.send(
        FileUpload(path=path, filename=task.filename, mime=facts.mime, bytes=facts.bytes, thumbnail=thumbnail)
    )


def total_bytes(blob: Blob) -> int:
    """Return the file bytes of an upload request, by which Telegram spaces equal sizes."""
    return blob.facts.bytes + (blob.thumbnail_bytes or 0)


def _upload_result(
    task: UploadTask, sent: SentMessage, method: UploadMethod, *, download: float, send: float
) -> UploadResult:
    if sent.file_id is None or sent.kind is None:
        kind = task.item.kind
        raise TelegramClientError(
            method=f"send {kind}", chat_id=sent.chat_id, status=200, description="the answer holds no file"
        )
    return UploadResult(
        media_id=task.item.media_id,
        way=method,
        file_id=sent.file_id,
        file_unique_id=sent.file_unique_id,
        kind=sent.kind,
        message=MessageRef(chat_id=sent.chat_id, message_id=sent.message_id),
        in_warmup_chat=task.warmup,
        name=task.item.name,
        download_seconds=download,
        send_seconds=send,
    )
