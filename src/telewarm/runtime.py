"""The library's face: an open Telewarm, and the short ways to what its components do."""

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
from telewarm.given import (
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
    """An open Telewarm, and the short ways to what its components do."""

    async def slugs(self) -> list[str]:
        """Of all bots."""
        return await bot_rows.slugs(self.pool)

    async def add_bot(self, slug: str, token: str, *, warmup_chats: Sequence[int | str]) -> Bot:
        """`warmup_chats`: ids, or `@names` of public ones. Raises InvalidBotToken, Conflict, UsageError."""
        return await self.bots.create(slug=slug, token=token, warmup_chats=warmup_chats)

    async def delete_bot(self, slug: str) -> None:
        """All its work stops in every process; `undelete_bot` brings it back with all it had. Raises NotFound."""
        await self.bots.delete(slug)

    async def undelete_bot(self, slug: str) -> Bot:
        """Raises NotFound, and Conflict for one that is being deleted for good."""
        session, _ = await self.bots.undelete(slug)
        return session.bot

    async def add(self, bot: str, file: FileInput, *, kind: Kind | None = None, name: str | None = None) -> MediaItem:
        """Put a file into a bot's library; it is being warmed when this returns. One that is there already is found.

        `file`: a path, bytes, a binary file or stream, or chunks of bytes (an async iterator). Without `kind` it is
        added as what its bytes are, or as a document; `note` of the item says why then.
        Raises NotFound, UnreadableMedia, MediaRuleViolation, StoreError, OSError, UsageError.
        """
        session = await self.bots.by_slug(bot)
        return _with_note(await add_any(self.library, session.bot, file, kind=kind, name=name))

    async def get(self, item: MediaItem | int) -> MediaItem:
        """A media item as it is now. Raises NotFound."""
        return await media.get(self.pool, MediaId(coercion.media_id("item", item)))

    async def ready(self, item: MediaItem | int, *, timeout: float = 60.0) -> MediaItem:
        """Wait until a media item has its file id, `timeout` seconds at most; it goes before others meanwhile.

        Raises MediaNotReady when it takes longer, MediaError when it will have none, NotFound.
        """
        seconds = coercion.seconds("timeout", timeout)
        found = await self.get(item)
        session = await self.bots.get(found.bot_id)
        await self.sender.file_id(session, found.id, wait=seconds)
        return await self.get(found.id)

    async def file_id(self, bot: str, item: MediaItem | int, *, wait: float = 60.0) -> WarmFile:
        """A media item's file id, to send it with your own framework: text that also knows its `kind` and `method`.

        It is this bot's and no other's. `wait`: seconds for it to become warm. Raises MediaNotReady when it takes
        longer, MediaError when it will have none, NotFound.
        """
        media_id, seconds = MediaId(coercion.media_id("item", item)), coercion.seconds("wait", wait)
        session = await self.bots.by_slug(bot)
        warm = await self.sender.file_id(session, media_id, wait=seconds)
        return WarmFile(warm.file_id, media_id=warm.media_id, kind=warm.kind)

    async def add_url(self, bot: str, url: str, *, kind: Kind | None = None, name: str | None = None) -> MediaItem:
        """`add` for a file at a public http or https address, which is fetched once and now.

        Raises FetchError besides (UrlNotAllowed, UrlFetchFailed, UrlNotAFile, FileTooLarge).
        """
        session = await self.bots.by_slug(bot)
        wanted, shown = parse_kind(kind), coercion.text("name", name)
        return _with_note(
            await self.library.add_url(session.bot, coercion.required("url", url), kind=wanted, name=shown)
        )

    async def rename(self, bot: str, item: MediaItem | int, name: str | None, *, rewarm: bool = False) -> MediaItem:
        """Give a media item of a bot another name. Recipients see it once the item is rewarmed, which `rewarm` asks
        for; `note` of the item says what they see until then. Raises NotFound.
        """
        shown = coercion.text("name", name)
        session, known = await self.bots.by_slug(bot), await self.get(item)
        if known.bot_id != session.bot.id:
            raise NotFound(f"media item {known.id} is not in the library of bot {bot!r}")
        return await self.library.rename(known.id, shown, rewarm=session.bot if rewarm else None)

    async def delete(self, bot: str, media_ids: Sequence[MediaItem | int]) -> DeletionResult:
        """Delete media of a bot: all that it has of these or, when a broadcast that has not ended needs one, none.

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
        """Send a message set, a text, or media to one chat now. A result for each message, in the order they went.

        `chat_id`: also the `@name` of a public channel or group. `patience`: seconds that it may wait for flood limits
        and warm-ups. Raises NotFound, UsageError: then nothing went. What goes wrong with one message is that result's
        `error`, which `raise_on_error`, or `raise_for_error()` of the results, raises.
        """
        session = await self.bots.by_slug(bot)
        on_cold = None if on_cold is None else parse_on_cold(on_cold)
        patience = None if patience is None else coercion.seconds("patience", patience)
        said = await self.library.as_files(session.bot, to_message_set(message))
        chat = await resolve_chat(session.api, session.chat_names, chat_id)
        results = SendResults(await self.sender.send(session, chat, said, on_cold=on_cold, patience=patience))
        return results.raise_for_error() if raise_on_error else results

    async def broadcast(self, bots: str | Sequence[str], message: MessageInput) -> list[Broadcast]:
        """A draft for each of the bots: give it recipients with `broadcasts.load`, then `broadcasts.start` it."""
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
        """Send a message to a list (a file, its bytes, or chat ids). Called again after a crash it goes on
        with what is unfinished. Raises AlreadySent for what was finished within a day, unless `again`; UsageError for
        a list that does not say in which `column` its chat ids are; Conflict when that was guessed, unless `confirm`.
        """
        lives = [await self.bots.by_slug(slug) for slug in coercion.names("bots", bots)]
        return await self.submissions.submit(
            lives, to_message_set(message), recipients, plan, again=again, column=column, confirm=confirm
        )

    async def events(
        self, bots: str | Sequence[str] = (), *, types: Sequence[str] = (), after: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """What happens from now on, in all processes, until this Telewarm closes; all of it, or only that of some bots,
        of types such as `media.ready` or `media`. `after`: from the event with this id on; an event of type `reset`
        comes first when some since then are no longer kept. Raises NotFound, UsageError, DatabaseUnavailable.
        """
        slugs = [(await self.bots.by_slug(slug)).bot.slug for slug in coercion.names("bots", bots)]
        wanted = EventFilter(bots=frozenset(slugs) or None, types=wanted_types(coercion.names("types", types)))
        after = None if after is None else coercion.integer("after", after, minimum=0)
        async with aclosing(self.event_bus.follow(wanted, after=after)) as chunks:
            async for chunk in chunks:
                for event in chunk.events:
                    yield event

    async def backup(self, file: str | PathLike[str], *, media: bool = False, key: bool = True) -> BackupResult:
        """Write the database, the encryption key and, if wanted, the media into a new archive, while all goes on.

        `telewarm restore` reads it. It holds secrets: its owner alone may read it. Raises BackupError, StoreError.
        """
        return await self.backups.save(to_path(file), media=media, key=key)

    async def untaken(self) -> UntakenWork | None:
        """Work that has been due for some seconds and that no worker of any process takes; None: all is well."""
        return await find_untaken_work(self.pool)


def _with_note(added: IngestResult) -> MediaItem:
    return replace(added.item, note=added.note)
