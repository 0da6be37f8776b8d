"""Public interface of the library: an open Telewarm with short methods for its components."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from os import PathLike

import structlog

from telewarm import coercion
from telewarm.assembly import Components
from telewarm.backup import BackupResult
from telewarm.bots.chat_names import resolve_chat
from telewarm.broadcasts.plans import SendPlan
from telewarm.broadcasts.submissions import DEFAULT_PLAN, Recipients, SubmissionResult
from telewarm.database import bots as bot_rows
from telewarm.database import media
from telewarm.database.deletions import DeletionResult
from telewarm.database.queue_snapshot import UntakenWork, find_untaken_work
from telewarm.errors import NotFound
from telewarm.events.filter import EventFilter, wanted_types
from telewarm.inputs import (
    FileInput,
    MessageInput,
    WarmFile,
    add_any,
    parse_kind,
    parse_on_cold,
    to_message_set,
    to_path,
)
from telewarm.media.ingest import IngestResult
from telewarm.models import Bot, Broadcast, Event, Kind, MediaId, MediaItem
from telewarm.sending.send_context import OnCold, SendResults

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Telewarm(Components):
    """An open Telewarm, with short methods for its components."""

    async def slugs(self) -> list[str]:
        """Return the slugs of all bots."""
        return await bot_rows.slugs(self.pool)

    async def add_bot(self, slug: str, token: str, *, warmup_chats: Sequence[int | str]) -> Bot:
        """Add a bot. `warmup_chats`: ids, or `@names` of public chats. Raises InvalidBotToken, Conflict, UsageError."""
        return await self.bots.create(slug=slug, token=token, warmup_chats=warmup_chats)

    async def delete_bot(self, slug: str) -> None:
        """Delete a bot: its work stops in every process. `undelete_bot` restores it with its data. Raises NotFound."""
        await self.bots.delete(slug)

    async def undelete_bot(self, slug: str) -> Bot:
        """Restore a deleted bot. Raises NotFound, and Conflict for one that is being deleted for good."""
        session, _ = await self.bots.undelete(slug)
        return session.bot

    async def add(self, bot: str, file: FileInput, *, kind: Kind | None = None, name: str | None = None) -> MediaItem:
        """Add a file to a bot's library, which starts its warm-up. An existing item is returned as it is.

        `file`: a path, bytes, a binary file or stream, or an async iterator of bytes. Without `kind` the natural kind
        of the bytes is used, or document; the item's `note` has the reason. Raises NotFound, UnreadableMedia,
        MediaRuleViolation, StoreError, OSError, UsageError.
        """
        session = await self.bots.by_slug(bot)
        return _with_note(await add_any(self.library, session.bot, file, kind=kind, name=name))

    async def get(self, item: MediaItem | int) -> MediaItem:
        """Return the present state of a media item. Raises NotFound."""
        return await media.get(self.pool, MediaId(coercion.media_id("item", item)))

    async def ready(self, item: MediaItem | int, *, timeout: float = 60.0) -> MediaItem:
        """Wait at most `timeout` seconds until a media item is ready; it has priority meanwhile.

        Raises MediaNotReady after that time, MediaError when its warm-up failed for good, NotFound.
        """
        seconds = coercion.seconds("timeout", timeout)
        found = await self.get(item)
        session = await self.bots.get(found.bot_id)
        await self.sender.file_id(session, found.id, wait=seconds)
        return await self.get(found.id)

    async def file_id(self, bot: str, item: MediaItem | int, *, wait: float = 60.0) -> WarmFile:
        """Return a media item's file id for sending it with another framework: a str with `kind` and `method`.

        It is valid for this bot only. `wait`: seconds for the item to become ready. Raises MediaNotReady after that
        time, MediaError when its warm-up failed for good, NotFound.
        """
        media_id, seconds = MediaId(coercion.media_id("item", item)), coercion.seconds("wait", wait)
        session = await self.bots.by_slug(bot)
        warm = await self.sender.file_id(session, media_id, wait=seconds)
        return WarmFile(warm.file_id, media_id=warm.media_id, kind=warm.kind)

    async def add_url(self, bot: str, url: str, *, kind: Kind | None = None, name: str | None = None) -> MediaItem:
        """Add a file from a public http or https address, as `add` does. It is fetched once, now.

        Raises FetchError too (UrlNotAllowed, UrlFetchFailed, UrlNotAFile, FileTooLarge).
        """
        session = await self.bots.by_slug(bot)
        wanted, shown = parse_kind(kind), coercion.text("name", name)
        return _with_note(
            await self.library.add_url(session.bot, coercion.required("url", url), kind=wanted, name=shown)
        )

    async def rename(self, bot: str, item: MediaItem | int, name: str | None, *, rewarm: bool = False) -> MediaItem:
        """Rename a media item.

        Recipients see the new name after a rewarm, which `rewarm` requests; the item's `note` says what they see until
        then. Raises NotFound.
        """
        shown = coercion.text("name", name)
        session, known = await self.bots.by_slug(bot), await self.get(item)
        if known.bot_id != session.bot.id:
            raise NotFound(f"media item {known.id} is not in the library of bot {bot!r}")
        return await self.library.rename(known.id, shown, rewarm=session.bot if rewarm else None)

    async def delete(self, bot: str, media_ids: Sequence[MediaItem | int]) -> DeletionResult:
        """Delete media of a bot, or none of them if an unfinished broadcast needs one.

        Raises NotFound, Conflict, UsageError.
        """
        ids = [MediaId(coercion.media_id("media_ids", one)) for one in coercion.to_list("media_ids", media_ids)]
        return await self.library.delete((await self.bots.by_slug(bot)).bot, ids)

    async def send(
        self,
        bot: str,
        chat_id: int | str,
        message: MessageInput,
        *,
        on_cold: OnCold | None = None,
        patience: float | None = None,
        raise_on_error: bool = False,
    ) -> SendResults:
        """Send a message set, a text, or media to one chat now. Returns a result for each message, in order.

        `chat_id`: also the `@name` of a public channel or group. `patience`: seconds that the send may wait for flood
        limits and warm-ups. Raises NotFound, UsageError: then nothing was sent. The failure of one message is its
        result's `error`, which `raise_on_error`, or `raise_for_error()` of the results, raises.
        """
        session = await self.bots.by_slug(bot)
        on_cold = None if on_cold is None else parse_on_cold(on_cold)
        patience = None if patience is None else coercion.seconds("patience", patience)
        said = await self.library.as_files(session.bot, to_message_set(message))
        chat = await resolve_chat(session.api, session.chat_names, chat_id)
        results = SendResults(await self.sender.send(session, chat, said, on_cold=on_cold, patience=patience))
        return results.raise_for_error() if raise_on_error else results

    async def broadcast(self, bots: str | Sequence[str], message: MessageInput) -> list[Broadcast]:
        """Create a draft for each bot, to be filled with `broadcasts.load` and started with `broadcasts.start`."""
        lives = [await self.bots.by_slug(slug) for slug in coercion.names("bots", bots)]
        return await self.broadcasts.create(lives, to_message_set(message))

    async def submit(
        self,
        bots: str | Sequence[str],
        message: MessageInput,
        recipients: Recipients,
        plan: SendPlan = DEFAULT_PLAN,
        *,
        again: bool = False,
        column: str | None = None,
        confirm: bool = False,
    ) -> SubmissionResult:
        """Send a message to a list: a file, its bytes, or chat ids.

        Called again after a crash, it continues the unfinished broadcast. Raises AlreadySent for one that finished
        within a day, unless `again`; UsageError for a list that does not show in which `column` its chat ids are;
        Conflict when that was guessed, unless `confirm`.
        """
        lives = [await self.bots.by_slug(slug) for slug in coercion.names("bots", bots)]
        return await self.submissions.submit(
            lives, to_message_set(message), recipients, plan, again=again, column=column, confirm=confirm
        )

    async def events(
        self, bots: str | Sequence[str] = (), *, types: Sequence[str] = (), after: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """Follow the events of all processes from now on, until this Telewarm closes.

        Filter by bots, and by types such as `media.ready` or `media`. `after`: continue after the event with this id;
        an event of type `reset` comes first when some since then are no longer stored. Raises NotFound, UsageError,
        DatabaseUnavailable.
        """
        slugs = [(await self.bots.by_slug(slug)).bot.slug for slug in coercion.names("bots", bots)]
        wanted = EventFilter(bots=frozenset(slugs) or None, types=wanted_types(coercion.names("types", types)))
        after = None if after is None else coercion.integer("after", after, minimum=0)
        async with aclosing(self.event_bus.follow(wanted, after=after)) as chunks:
            async for chunk in chunks:
                for event in chunk.events:
                    yield event

    async def backup(self, file: str | PathLike[str], *, media: bool = False, key: bool = True) -> BackupResult:
        """Write the database, the encryption key and, on request, the media to a new archive, during operation.

        `telewarm restore` reads it. It holds secrets, and only its owner may read it. Raises BackupError, StoreError.
        """
        return await self.backups.save(to_path(file), media=media, key=key)

    async def untaken(self) -> UntakenWork | None:
        """Return work that has been due for some seconds and that no worker takes; None: there is none."""
        return await find_untaken_work(self.pool)


def _with_note(added: IngestResult) -> MediaItem:
    return replace(added.item, note=added.note)
