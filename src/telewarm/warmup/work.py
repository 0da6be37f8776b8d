"""Warm-ups as the work of a lane."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from telewarm import clock, metrics
from telewarm.bots.chat_faults import FAULT_SECONDS as FAULTY
from telewarm.bots.sessions import BotSession
from telewarm.database import bots, warmups
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import enqueue_lane, notify_sharing_lanes
from telewarm.database.leases import ProcessLease
from telewarm.database.retry import log_transient
from telewarm.database.warmups import WarmupFailure
from telewarm.errors import ChatMigrated, ChatUnreachable, FloodWait, TelewarmError
from telewarm.file_ids.uploader import FileIdUploader
from telewarm.metrics import WarmupResult, WarmupTimings
from telewarm.models import Bot, BotId, ChatId, ClaimedMedia, MediaId, UploadResult
from telewarm.telegram.responses import is_kind_refused
from telewarm.warmup import policy
from telewarm.warmup.policy import RetryLimits
from telewarm.worker.work import Job

log = structlog.get_logger(__name__)

SHARERS_TTL_SECONDS = 5.0  # seconds for which the list of bots that share a warm-up chat is cached


@dataclass(kw_only=True, slots=True)
class WarmupTask:
    """A claimed item in its lane. Times are of the monotonic clock, in seconds."""

    item: ClaimedMedia
    bot: Bot  # the bot at the time of the claim
    claimed_at: float
    started_at: float = 0.0

    @property
    def queue_wait(self) -> float:
        """Seconds between the request and the start: by the database's clock until the claim, by ours after it."""
        return self.item.waited + self.started_at - self.claimed_at


class WarmupWork:
    """Warm-ups of one bot: claims due media, gets their file ids, records the outcomes in batches."""

    def __init__(
        self, *, pool: Pool, lease: ProcessLease, session: BotSession, uploader: FileIdUploader, retries: RetryLimits
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._session = session
        self._uploader = uploader
        self._retries = retries
        self._claimed: set[MediaId] = set()
        self._failed_by_bot: dict[MediaId, Bot] = {}  # failures by the bot's fault that are not recorded yet
        self._sharers: Sequence[BotId] = ()
        self._sharers_of: tuple[ChatId, ...] = ()
        self._sharers_until = 0.0
        self._log = log.bind(bot=session.bot.slug)  # bound once: a filtered event then costs next to nothing

    async def claim(self, limit: int) -> list[Job[WarmupTask]]:
        """Claim due media, with the warm-up chats that can take each."""
        bot = self._session.bot
        await self._refresh_sharers(bot)
        with self._lease.media.claiming():
            claimed = await warmups.claim(
                self._pool,
                bot_id=bot.id,
                limit=limit,
                lease_id=self._lease.id,
                sharing_bots=self._sharers,
                chats=bot.warmup_chats,
            )
            self._add_claimed([item.media_id for item in claimed])
        now = clock.monotonic()
        faults = self._session.faults
        return [
            Job(
                item=WarmupTask(item=item, bot=bot, claimed_at=now),
                chats=faults.usable(bot.warmup_chats, item.kind, now=now),
                size=self._uploader.upload_bytes(item, bot.telegram_id),
            )
            for item in claimed
        ]

    async def _refresh_sharers(self, bot: Bot) -> None:
        """Refresh the list of bots that share a warm-up chat: it may change while a busy lane runs for hours."""
        now = clock.monotonic()
        if now >= self._sharers_until or bot.warmup_chats != self._sharers_of:
            self._sharers = await bots.bots_sharing_warmup_chats(self._pool, bot.id)
            self._sharers_of, self._sharers_until = bot.warmup_chats, now + SHARERS_TTL_SECONDS

    async def do(self, task: WarmupTask, chat_id: ChatId) -> UploadResult:
        """Get the item's file id through the chat; log and measure the warm-up."""
        item, task.started_at = task.item, clock.monotonic()
        facts = _log_fields(task)
        self._log.info("warmup_started", chat_id=chat_id, **facts)
        try:
            result = await self._upload(item, chat_id)
        except FloodWait as wait:
            total = clock.monotonic() - task.started_at
            self._log.info(
                "warmup_flood_wait",
                chat_id=chat_id,
                retry_after_s=wait.retry_after,
                total_ms=_ms(total),
                **facts,
            )
            raise
        except ChatMigrated as error:
            await self._follow_migration(error)
            raise
        took = WarmupTimings(
            waited=task.queue_wait,
            download=result.download_seconds,
            send=result.send_seconds,
            total=clock.monotonic() - task.started_at,
        )
        metrics.warmup_succeeded(item.kind, result.way, took)
        self._log.info(
            "warmup_done",
            sent_kind=result.kind,
            way=result.way,
            download_ms=_ms(took.download),
            send_ms=_ms(took.send),
            total_ms=_ms(took.total),
            **facts,
        )
        return result

    async def _upload(self, item: ClaimedMedia, chat_id: ChatId) -> UploadResult:
        """Upload, again after a weak id: forwarding the message with the weak id would return the same one."""
        for upload in range(1 + self._retries.weak_id_attempts):
            again = item if upload == 0 else replace(item, origin=None)
            result = await self._uploader.warm(again, self._session.api, chat_id)
            if not policy.is_weak(result.file_unique_id):
                break
            metrics.weak_id()
            self._log.warning("warmup_weak_file_id", media_id=item.media_id, upload=upload + 1)
        return result

    async def _follow_migration(self, error: ChatMigrated) -> None:
        """Replace a warm-up group that became a supergroup. After a failure here, the next item tries again."""
        session, chat_id = self._session, error.chat_id
        if chat_id is None or session.on_migrated is None:
            return
        with log_transient("warmup_chat_migration_unsaved", bot=session.bot.slug, chat_id=chat_id):
            await session.on_migrated(ChatId(chat_id), ChatId(error.migrate_to_chat_id))

    def failed(self, task: WarmupTask, error: TelewarmError) -> WarmupFailure:
        """Decide on the retry of a failed item, and log it."""
        item, counted = task.item, policy.counts_as_attempt(error)
        delay = policy.retry_in(error, item.attempts, self._retries, random.random())  # noqa: S311 - jitter, no secret
        if not counted and (self._bot_changed_since(task.bot) or self._has_another_chat(task, error)):
            delay = 0.0
        elif not counted:
            self._failed_by_bot[item.media_id] = task.bot
        outcome = WarmupResult.ERROR if delay is None else WarmupResult.RETRY
        metrics.warmup_failed(item.kind, outcome, error.code)
        self._log.warning(
            f"warmup_{outcome}",
            code=error.code,
            error=error.message,
            retry_in_s=delay and round(delay, 1),
            total_ms=_ms(clock.monotonic() - task.started_at),
            **(_log_fields(task) | {"attempts": item.attempts + counted}),
        )
        message = f"{error.message}. {policy.cure(error, again=delay is not None)}"
        return WarmupFailure(
            media_id=item.media_id, retry_delay=delay, counts_as_attempt=counted, code=error.code, message=message
        )

    def _has_another_chat(self, task: WarmupTask, error: TelewarmError) -> bool:
        """Note that a warm-up chat refused an item. Returns whether another chat can take it at once."""
        if not isinstance(error, ChatUnreachable) or error.chat_id is None:
            return False
        chat_id, kind, session = ChatId(error.chat_id), task.item.kind, self._session
        chats = session.bot.warmup_chats
        now = clock.monotonic()
        refused = kind if is_kind_refused(error.description) else None
        session.faults.note(chat_id, refused, now=now)
        another = session.faults.any_usable(chats, kind, now=now)
        if another and refused is None:  # claimed items go to another chat, too
            session.limiter.pause_chat(chat_id, now + FAULTY)
        self._log.warning(
            "warmup_chat_refused", chat_id=chat_id, reason=error.reason, error=error.description, another=another
        )
        return another

    def _bot_changed_since(self, claimed_as: Bot) -> bool:
        """Return whether the bot has another token or other warm-up chats since the claim."""
        now = self._session.bot
        return (now.token, now.warmup_chats) != (claimed_as.token, claimed_as.warmup_chats)

    async def record(self, done: Sequence[UploadResult | WarmupFailure]) -> None:
        """Record file ids and failures, and wake the lanes that wait for them."""
        result = [one for one in done if isinstance(one, UploadResult)]
        failed = [one for one in done if isinstance(one, WarmupFailure)]
        if result:
            await warmups.record_ready(
                self._pool, result, lease_id=self._lease.id, telegram_id=self._session.bot.telegram_id
            )
        if failed:
            await warmups.record_failed(self._pool, self._lease.id, failed)
            await self._retry_at_once(failed)
        self._remove_claimed([one.media_id for one in done])
        if self._sharers:
            await notify_sharing_lanes(self._pool, [one.media_id for one in done], self._sharers)

    async def _retry_at_once(self, failed: Sequence[WarmupFailure]) -> None:
        """Enqueue the lane for items that may be retried at once: by another chat, or as the bot was repaired.

        A repair that happened while the failures were being recorded did not reset these items.
        """
        blamed = [one.media_id for one in failed if one.media_id in self._failed_by_bot]
        repaired = any(self._bot_changed_since(self._failed_by_bot[media_id]) for media_id in blamed)
        if repaired or any(one.retry_delay == 0.0 for one in failed):
            async with self._pool.acquire() as connection, connection.transaction():
                if repaired:
                    await warmups.end_backoffs(connection, self._session.bot.id)
                await enqueue_lane(connection, self._session.bot)
        for media_id in blamed:
            del self._failed_by_bot[media_id]

    def unstorable(self, done: UploadResult | WarmupFailure, error: Exception) -> WarmupFailure | None:
        """Return a failure in place of an outcome that the database refused."""
        if isinstance(done, WarmupFailure) and done.code == warmups.UNSTORABLE_CODE:
            self._remove_claimed([done.media_id])
            return None
        return warmups.unstorable_failure(done.media_id, error)

    async def release(self, tasks: Sequence[WarmupTask]) -> None:
        """Release claimed items untried."""
        media_ids = [task.item.media_id for task in tasks]
        await warmups.release(self._pool, self._lease.id, media_ids)
        self._remove_claimed(media_ids)

    def end(self) -> None:
        """Forget the lane's claims."""
        self._remove_claimed(list(self._claimed))

    def _add_claimed(self, media_ids: Sequence[MediaId]) -> None:
        self._claimed.update(media_ids)
        self._lease.media.add(media_ids)

    def _remove_claimed(self, media_ids: Sequence[MediaId]) -> None:
        self._claimed.difference_update(media_ids)
        self._lease.media.discard(media_ids)


def _log_fields(task: WarmupTask) -> dict[str, object]:
    """Return the fields of every warm-up event. `attempts`: failed ones."""
    item = task.item
    return {
        "media_id": item.media_id,
        "kind": item.kind,
        "bytes": item.blob.facts.bytes,
        "attempts": item.attempts,
        "queue_wait_ms": _ms(task.queue_wait),
    }


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
