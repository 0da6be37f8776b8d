"""Methods to obtain a file id: what each needs, what it falls back on, and what is learned of a bot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.bots.sessions import BotSession
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.database.warmups import record_ready
from telewarm.demo.media import DemoFile
from telewarm.errors import (
    BadRequest,
    ChatUnreachable,
    FloodWait,
    InvalidBotToken,
    InvalidFileId,
    MessageNotFound,
    TelegramClientError,
    TelegramError,
    TelegramServerError,
    TelegramUnreachable,
)
from telewarm.file_ids.method_selector import (
    CIRCUIT_OPEN_MAX_SECONDS,
    CIRCUIT_OPEN_MIN_SECONDS,
    MethodSelector,
    Route,
    fits_url,
    is_item_error,
    should_fall_back,
)
from telewarm.file_ids.thumbnail_cache import ThumbnailCache
from telewarm.models import ClaimedMedia, Kind, MediaItem, MediaMetadata, UploadMethod
from telewarm.runtime import Telewarm
from telewarm.sandbox import Config, Sandbox, fileids
from telewarm.sandbox.faults import Rule
from telewarm.storage.config import S3Config
from telewarm.storage.object_store import BlobStore
from telewarm.telegram.client import BotApi
from telewarm.telegram.transport import Request, Response
from telewarm.warmup.policy import RetryLimits
from telewarm.warmup.work import WarmupWork
from tests.fixtures.app import NO_SWEEP, WARMUP_CHAT, Opener, add_bot, add_photos, until_ready
from tests.fixtures.proxies import Proxy, proxied
from tests.fixtures.rows import blob, claim, make_bot, make_item, make_lease, uploaded
from tests.fixtures.sandbox import SandboxWith, token

URL = Route(1, UploadMethod.URL)
UNREADABLE = "Bad Request: failed to get HTTP URL content"
moments = st.floats(min_value=0, max_value=1e6)


def refused(
    kind: type[BadRequest | InvalidFileId | MessageNotFound], words: str = "Bad Request: no"
) -> TelegramClientError:
    return kind(method="sendPhoto", chat_id=WARMUP_CHAT, status=400, description=words)


def unreachable(reason: str) -> ChatUnreachable:
    return ChatUnreachable(method="copyMessage", status=403, description=f"Forbidden: {reason}", reason=reason)


GONE = refused(MessageNotFound)
PROTECTED = refused(BadRequest, "Bad Request: message has protected content and can't be forwarded")
WRONG_TYPE = refused(InvalidFileId, "Bad Request: wrong type of the web page content")
UNFETCHED = refused(InvalidFileId, UNREADABLE)
LOST = unreachable("not_found")
FAULT = TelegramServerError(method="x", status=502, description="Bad Gateway")
SILENCE = TelegramUnreachable("no answer", method="x", effect_possible=True)
FLOOD = FloodWait(method="x", status=429, description="Too Many Requests: retry after 3", retry_after=3)
TOKEN = InvalidBotToken(method="x", status=401, description="Unauthorized")


@given(moments)
def test_a_way_that_failed_is_closed_and_then_one_item_tries_it(now: float) -> None:
    ways = MethodSelector()
    assert ways.try_acquire(URL, now)
    ways.failed(URL, started_at=now, now=now + 1)
    over = now + 1 + CIRCUIT_OPEN_MIN_SECONDS
    assert not ways.try_acquire(URL, over - 0.01)
    assert ways.is_available(URL, over + 0.01)
    assert [ways.try_acquire(URL, over + 0.01) for _ in range(3)] == [True, False, False]
    assert not ways.is_available(URL, over + 0.02)


@given(moments, st.integers(min_value=1, max_value=12))
def test_each_failed_try_doubles_the_pause_up_to_an_hour(now: float, tries: int) -> None:
    ways = MethodSelector()
    for number in range(tries):
        assert ways.try_acquire(URL, now)
        ways.failed(URL, started_at=now, now=now + 0.5)
        pause = min(CIRCUIT_OPEN_MAX_SECONDS, CIRCUIT_OPEN_MIN_SECONDS * 2**number)
        assert not ways.is_available(URL, now + 0.5 + 0.99 * pause)
        now += 1 + pause
    assert ways.is_available(URL, now)


@given(moments, st.integers(min_value=1, max_value=50))
def test_failures_that_were_under_way_together_are_one_piece_of_news(now: float, count: int) -> None:
    ways = MethodSelector()
    for number in range(count):
        ways.failed(URL, started_at=now, now=now + 1 + number / 100)
    assert ways.is_available(URL, now + 1 + CIRCUIT_OPEN_MIN_SECONDS)


def test_a_success_opens_a_way_to_all_and_forgets_what_was_learned() -> None:
    ways = MethodSelector()
    ways.failed(URL, started_at=0, now=1)
    assert ways.try_acquire(URL, 1 + CIRCUIT_OPEN_MIN_SECONDS)
    ways.succeeded(URL)
    assert all(ways.try_acquire(URL, 2 + CIRCUIT_OPEN_MIN_SECONDS) for _ in range(3))
    assert len(ways) == 0


def test_what_fails_for_one_bot_or_from_one_chat_stays_open_for_others() -> None:
    ways = MethodSelector()
    ways.failed(Route(1, UploadMethod.FORWARD, WARMUP_CHAT), started_at=0, now=1)
    others = [
        Route(2, UploadMethod.FORWARD, WARMUP_CHAT),
        Route(1, UploadMethod.FORWARD, None),
        Route(1, UploadMethod.PATH),
        URL,
    ]
    assert all(ways.is_available(route, 2) for route in others)


@pytest.mark.parametrize(
    ("way", "error", "attempts", "expected"),
    [
        (UploadMethod.FORWARD, GONE, 0, (True, True)),
        (UploadMethod.FORWARD, PROTECTED, 0, (True, False)),
        (UploadMethod.FORWARD, LOST, 0, (True, False)),
        (UploadMethod.FORWARD, FAULT, 0, (False, True)),
        (UploadMethod.FORWARD, FAULT, 2, (True, True)),
        (UploadMethod.FORWARD, FLOOD, 9, (False, True)),
        (UploadMethod.FORWARD, TOKEN, 9, (False, True)),
        (UploadMethod.PATH, UNFETCHED, 0, (True, False)),
        (UploadMethod.PATH, refused(BadRequest), 0, (True, True)),
        (UploadMethod.PATH, LOST, 0, (False, False)),
        (UploadMethod.URL, UNFETCHED, 0, (True, False)),
        (UploadMethod.URL, WRONG_TYPE, 0, (True, True)),
        (UploadMethod.URL, refused(BadRequest), 0, (True, True)),
        (UploadMethod.URL, SILENCE, 0, (False, False)),
        (UploadMethod.URL, SILENCE, 2, (True, False)),
        (UploadMethod.URL, FLOOD, 9, (False, False)),
        (UploadMethod.UPLOAD, refused(BadRequest), 0, (False, True)),
    ],
)
def test_an_error_says_whether_the_next_way_is_tried_and_whether_it_was_the_items_fault(
    way: UploadMethod, error: TelegramError, attempts: int, expected: tuple[bool, bool]
) -> None:
    assert (should_fall_back(way, error, attempts=attempts), is_item_error(way, error)) == expected


@pytest.mark.parametrize(
    ("kind", "mime", "size", "name", "fits"),
    [
        (Kind.PHOTO, "image/jpeg", 5_000_000, "a.jpg", True),
        (Kind.PHOTO, "image/jpeg", 5_000_001, None, False),
        (Kind.PHOTO, "image/gif", 1000, None, False),
        (Kind.DOCUMENT, "application/pdf", 20_000_000, None, True),
        (Kind.DOCUMENT, "application/pdf", 20_000_001, None, False),
        (Kind.DOCUMENT, "application/pdf", 1000, "contract.pdf", False),
        (Kind.DOCUMENT, "image/jpeg", 1000, None, False),
        (Kind.VOICE, "audio/ogg", 1_000_000, None, True),
        (Kind.VOICE, "audio/ogg", 1_000_001, None, False),
        (Kind.VOICE, "audio/mpeg", 1000, None, False),
        (Kind.STICKER, "image/webp", 1000, None, True),
        (Kind.STICKER, "video/webm", 1000, None, False),
        (Kind.VIDEO, "video/mp4", 1000, None, False),
        (Kind.AUDIO, "audio/mpeg", 1000, None, False),
        (Kind.ANIMATION, "video/mp4", 1000, None, False),
        (Kind.VIDEO_NOTE, "video/mp4", 1000, None, False),
    ],
)
def test_only_what_loses_nothing_is_fetched_by_url(
    kind: Kind, mime: str, size: int, name: str | None, *, fits: bool
) -> None:
    assert fits_url(kind, MediaMetadata(bytes=size, mime=mime, ext="x"), name=name) is fits


def bucket_environ(bucket: S3Config) -> dict[str, str]:
    return {
        "S3_ENDPOINT": bucket.endpoint,
        "S3_BUCKET": bucket.bucket,
        "S3_ACCESS_KEY_ID": bucket.access_key_id,
        "S3_SECRET_ACCESS_KEY": bucket.secret_access_key,
        "TELEWARM_URL_WARMUP": "true",
        **NO_SWEEP,
    }


async def add_file(telewarm: Telewarm, path: Path, kind: Kind | None = None, *, number: int = 0) -> MediaItem:
    session = await add_bot(telewarm, number)
    added = await telewarm.library.add_file(session.bot, path, kind=kind)
    [item] = await until_ready(telewarm, added.item.id)
    return item


async def test_telegram_fetches_what_the_bucket_serves(
    telewarm_with: Opener, sandbox: Sandbox, bucket: S3Config, photo_file: Callable[..., Path]
) -> None:
    item = await add_file(await telewarm_with(bucket_environ(bucket)), photo_file(1))

    stats = sandbox.state.stats.total
    assert (item.way, stats.fetches, stats.uploads) == (UploadMethod.URL, 1, 0)


async def test_telegram_is_told_the_public_address_of_a_bucket_that_has_one(
    telewarm_with: Opener, rclone: S3Config, photo_file: Callable[..., Path]
) -> None:
    async with proxied(Proxy(prefix="/nothing-is-there")) as public:
        root = public.url.removesuffix(public.prefix)
        environ = {**bucket_environ(rclone), "S3_PUBLIC_BASE_URL": f"{root}/media/"}
        item = await add_file(await telewarm_with(environ), photo_file(1))

    assert item.way is UploadMethod.UPLOAD  # the way that always works
    assert public.asked
    assert all(asked.startswith("GET /media/") and "X-Amz-Signature" not in asked for asked in public.asked)


async def test_a_voice_note_from_the_bucket_is_a_voice_note(
    telewarm_with: Opener, rclone: S3Config, demo_files: dict[str, DemoFile]
) -> None:
    item = await add_file(await telewarm_with(bucket_environ(rclone)), demo_files["note.ogg"].path, Kind.VOICE)

    assert (item.way, item.sent_kind) == (UploadMethod.URL, Kind.VOICE)


async def test_what_cannot_be_fetched_goes_up_and_the_next_item_does_not_try(
    telewarm_with: Opener, sandbox: Sandbox, rclone: S3Config
) -> None:
    telewarm = await telewarm_with(bucket_environ(rclone))
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="error", code=400, description=UNREADABLE, method="sendPhoto"))

    [first] = await until_ready(telewarm, *await add_photos(telewarm, session, 1, first=10))
    [second] = await until_ready(telewarm, *await add_photos(telewarm, session, 1, first=11))

    assert (first.way, first.attempts, second.way) == (UploadMethod.UPLOAD, 0, UploadMethod.UPLOAD)
    assert sandbox.state.stats.total.calls["sendPhoto"] == 3


async def test_a_folder_has_no_urls_whatever_the_setting_says(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP, TELEWARM_URL_WARMUP="true")
    session = await add_bot(telewarm)

    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))

    assert item.way is UploadMethod.UPLOAD
    assert sandbox.state.stats.total.calls["sendPhoto"] == 1


class Photos:
    """A Bot API that notes what it is asked to fetch, and takes it."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def __call__(self, request: Request) -> Response:
        assert isinstance(request.body, bytes)
        self.urls.append(json.loads(request.body)["photo"])
        photo = [{"file_id": "an-id", "file_unique_id": "AQADAgATqRsAAwI"}]
        message = {"message_id": 1, "chat": {"id": request.chat_id, "type": "channel"}, "photo": photo}
        return Response(status=200, body=json.dumps({"ok": True, "result": message}).encode())


async def test_no_two_attempts_give_the_same_url_and_each_url_works(telewarm_with: Opener, rclone: S3Config) -> None:
    """Telegram remembers for days what a URL gave, failures too."""
    telewarm = await telewarm_with(bucket_environ(rclone), worker=False)
    session = await add_bot(telewarm)
    await add_photos(telewarm, session, 1, first=20)
    wire = Photos()
    async with ProcessLease.open(telewarm.pool) as lease:
        [job] = await warm_ups(telewarm, lease, replace(session, api=BotApi(wire, token(0)))).claim(5)
        for _ in range(20):
            await telewarm.sender._uploader.warm(job.item.item, BotApi(wire, token(0)), WARMUP_CHAT)

    assert len(set(wire.urls)) == 20
    assert job.size == 0
    async with aiohttp.ClientSession() as client:
        for url in wire.urls[:3]:
            async with client.get(url) as answer:
                assert len(await answer.read()) == job.item.item.blob.facts.bytes


def warm_ups(telewarm: Telewarm, lease: ProcessLease, session: BotSession) -> WarmupWork:
    return WarmupWork(
        pool=telewarm.pool,
        lease=lease,
        session=session,
        uploader=telewarm.sender._uploader,
        retries=RetryLimits(limit=8, base_seconds=1, max_seconds=1),
    )


async def test_a_local_server_reads_the_file_itself_with_its_name_and_its_thumbnail(
    telewarm_with: Opener, sandbox_with: SandboxWith, demo_files: dict[str, DemoFile]
) -> None:
    local = await sandbox_with(Config(local=True))
    telewarm = await telewarm_with(NO_SWEEP, TELEGRAM_API_LOCAL="true", TELEGRAM_API_ROOT=local.url)

    item = await add_file(telewarm, demo_files["film.mp4"].path, Kind.VIDEO)

    file = local.state.files.by_id(fileids.decode(item.file_id or "").id)
    thumbnail: int = await telewarm.pool.fetchval("SELECT thumbnail_bytes FROM blob")
    assert file is not None
    assert (item.way, file.kind, file.name) == (UploadMethod.PATH, "video", "film.mp4")
    assert file.thumbnail is not None
    assert file.thumbnail.size == thumbnail == local.state.stats.total.upload_bytes


async def test_a_server_that_cannot_read_our_disk_is_asked_once_and_gets_the_bytes(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP, TELEGRAM_API_LOCAL="true")
    session = await add_bot(telewarm)

    [first] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    [second] = await until_ready(telewarm, *await add_photos(telewarm, session, 1, first=1))

    assert (first.way, first.attempts, second.way) == (UploadMethod.UPLOAD, 0, UploadMethod.UPLOAD)
    assert sandbox.state.stats.total.calls["sendPhoto"] == 3


async def test_nothing_is_forwarded_out_of_a_protected_chat_twice(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    first, second = await add_bot(telewarm, 0, WARMUP_CHAT), await add_bot(telewarm, 1, WARMUP_CHAT)
    await until_ready(telewarm, *await add_photos(telewarm, first, 2))
    words = "Bad Request: message has protected content and can't be forwarded"
    rule = sandbox.state.faults.add(
        Rule(action="error", code=400, description=words, method="forwardMessage", count=None)
    )

    for number in range(2):
        [item] = await until_ready(telewarm, *await add_photos(telewarm, second, 1, first=number))
        assert item.way is UploadMethod.UPLOAD

    assert rule.hit == 1


async def test_a_forward_that_keeps_failing_gives_way_to_an_upload_before_the_item_is_given_up(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    fast = {"TELEWARM_RETRY_BASE_MS": "20", "TELEWARM_RETRY_MAX_MS": "50", "MEDIA_PREWARM_INTERVAL_MS": "100"}
    telewarm = await telewarm_with(fast, TELEWARM_RETRY_LIMIT="4")
    first, second = await add_bot(telewarm, 0, WARMUP_CHAT), await add_bot(telewarm, 1, WARMUP_CHAT)
    await until_ready(telewarm, *await add_photos(telewarm, first, 1))
    sandbox.state.faults.add(Rule(action="error", code=502, method="forwardMessage", count=None))

    [item] = await until_ready(telewarm, *await add_photos(telewarm, second, 1))

    assert item.way is UploadMethod.UPLOAD
    assert sandbox.state.stats.faults == 3


async def test_the_size_of_a_job_is_all_that_goes_up_with_it(
    idle_telewarm: Telewarm, demo_files: dict[str, DemoFile]
) -> None:
    session = await add_bot(idle_telewarm)
    await idle_telewarm.library.add_file(session.bot, demo_files["film.mp4"].path, kind=Kind.VIDEO)
    async with ProcessLease.open(idle_telewarm.pool) as lease:
        [job] = await warm_ups(idle_telewarm, lease, session).claim(5)

    thumbnail: int = await idle_telewarm.pool.fetchval("SELECT thumbnail_bytes FROM blob")
    assert thumbnail > 0
    assert job.size == job.item.item.blob.facts.bytes + thumbnail


async def test_a_thumbnail_is_read_from_the_store_once_and_missed_by_nobody_when_it_is_gone(
    folder_store: BlobStore,
) -> None:
    await folder_store.put_bytes("thumbnails/one", b"one")
    await folder_store.put_bytes("thumbnails/two", b"two")
    thumbnails = ThumbnailCache(folder_store, max_bytes=5)
    one, two, none = (replace(blob(1), thumbnail_key=f"thumbnails/{name}") for name in ("one", "two", "none"))

    assert await thumbnails.get(one) == b"one"
    await folder_store.delete("thumbnails/one")
    assert await asyncio.gather(*[thumbnails.get(one) for _ in range(5)]) == [b"one"] * 5
    assert await thumbnails.get(two) == b"two"
    assert await thumbnails.get(one) is None  # there was room for one of them
    assert await thumbnails.get(none) is None
    assert await thumbnails.get(blob(1)) is None


async def test_a_bot_waits_for_anothers_upload_but_not_for_its_forward(pool: Pool) -> None:
    bots = [await make_bot(pool, number) for number in range(3)]
    ids = [await make_item(pool, bot) for bot in bots]
    lease = await make_lease(pool)

    async def claimed(number: int) -> list[ClaimedMedia]:
        others = tuple(bot for bot in bots if bot is not bots[number])
        return await claim(pool, bots[number], lease, sharers=others)

    [first] = await claimed(0)
    assert first.origin is None
    assert await claimed(1) == []
    await record_ready(pool, [uploaded(ids[0], "an-id")], lease_id=lease)
    [second], [third] = await claimed(1), await claimed(2)
    assert second.origin == third.origin == uploaded(ids[0], "an-id").message
