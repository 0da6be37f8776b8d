"""Media out: rows at once, bytes once nobody needs them, and nothing that somebody adds at the same moment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.database import blob_tombstones, media
from telewarm.demo.media import DemoFile
from telewarm.errors import BotDeleted, NotFound, StoreUnavailable, UsageError
from telewarm.media.garbage_collector import BlobGarbageCollector
from telewarm.media.ingest import LibraryLimits
from telewarm.media.library import MediaLibrary
from telewarm.models import MediaId, MediaState
from telewarm.probe import Probe
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.object_store import BlobStore
from telewarm.storage.put_source import PutSource
from tests.fixtures.app import READER, Opener, add_bot, add_bytes, add_photos, message_of, until_ready
from tests.fixtures.media import jpeg


def kept(telewarm: Telewarm) -> list[Path]:
    """Every file in the store and in the disk cache."""
    folders = (telewarm.settings.store_folder, telewarm.settings.telewarm_data / "spool")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def hasty(telewarm: Telewarm, *, store: BlobStore | None = None) -> BlobGarbageCollector:
    """A collector that waits for nobody."""
    own = telewarm.collector
    return BlobGarbageCollector(pool=telewarm.pool, store=store or own._store, disk_cache=own._disk_cache, grace=0)


@pytest.fixture
async def session(idle_telewarm: Telewarm) -> BotSession:
    return await add_bot(idle_telewarm)


async def test_the_bytes_of_a_deleted_item_go_from_store_and_spool_once_nobody_has_them(
    idle_telewarm: Telewarm, session: BotSession, demo_files: dict[str, DemoFile]
) -> None:
    telewarm = idle_telewarm
    other = await add_bot(telewarm, 1)
    film = demo_files["film.mp4"].path
    first, second = [(await telewarm.library.add_file(each.bot, film)).item.id for each in (session, other)]
    assert len(kept(telewarm)) == 3  # with its thumbnail

    await telewarm.library.delete(session.bot, [first])
    assert await hasty(telewarm).collect() == 0
    assert len(kept(telewarm)) == 3

    await telewarm.library.delete(other.bot, [second])
    assert await telewarm.collector.collect() == 0  # not at once
    assert await hasty(telewarm).collect() == 1
    assert kept(telewarm) == []
    assert await telewarm.pool.fetchval("SELECT count(*) FROM blob") == 0
    assert await hasty(telewarm).collect() == 0


async def test_what_was_collected_can_be_added_again(idle_telewarm: Telewarm, session: BotSession) -> None:
    [media_id] = await add_photos(idle_telewarm, session, 1)
    for _ in range(2):
        await idle_telewarm.library.delete(session.bot, [media_id])
        await hasty(idle_telewarm).collect()
        [media_id] = await add_photos(idle_telewarm, session, 1)

    assert len(kept(idle_telewarm)) == 2
    assert await hasty(idle_telewarm).collect() == 0
    assert (await media.get(idle_telewarm.pool, media_id)).state is MediaState.WARMING


async def test_an_item_added_again_before_its_bytes_are_collected_keeps_them(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    [media_id] = await add_photos(idle_telewarm, session, 1)
    await idle_telewarm.library.delete(session.bot, [media_id])
    await add_photos(idle_telewarm, session, 1)

    assert await hasty(idle_telewarm).collect() == 0
    assert len(kept(idle_telewarm)) == 2
    assert await idle_telewarm.pool.fetchval("SELECT count(*) FROM blob_tombstone") == 0


class Meddler(BlobStore):
    """A real store; something happens once something was put into it."""

    def __init__(self, store: BlobStore) -> None:
        super().__init__(store._backend, timeout_seconds=5)
        self.then: Callable[[], Awaitable[object]] | None = None

    async def _put(self, key: str, content: PutSource) -> bool:
        written = await super()._put(key, content)
        then, self.then = self.then, None
        if then is not None:
            await then()
        return written


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """A second library on the same database and store, and its store."""

    library: MediaLibrary
    store: Meddler
    probe: Probe


async def beside(telewarm: Telewarm, spool: BlobCache, probe: Probe) -> Beside:
    store = Meddler(telewarm.collector._store)
    limits = LibraryLimits(max_bytes=1 << 30, local_server=False)
    library = MediaLibrary(
        pool=telewarm.pool, store=store, disk_cache=spool, probe=probe, fetcher=telewarm.library._fetcher, limits=limits
    )
    return Beside(library=library, store=store, probe=probe)


@pytest.mark.parametrize("crashed", [False, True])
async def test_a_file_whose_object_is_collected_while_it_is_added_is_stored_again(
    idle_telewarm: Telewarm, session: BotSession, tmp_path: Path, *, crashed: bool
) -> None:
    """Between its put and its row: and if the collector is killed before it could write that the object is gone."""
    telewarm = idle_telewarm
    [first] = await add_photos(telewarm, session, 1)
    await telewarm.library.delete(session.bot, [first])
    async with telewarm.pool.acquire() as connection, connection.transaction():
        await blob_tombstones.delete_unused_blobs(connection, min_age_seconds=0, limit=10)

    async def meddle() -> None:
        if crashed:
            await telewarm.collector._store.delete(
                await telewarm.pool.fetchval("SELECT storage_key FROM blob_tombstone")
            )
        else:
            assert await hasty(telewarm).collect() == 1

    spool = BlobCache(tmp_path / "spool", store=telewarm.collector._store)
    async with Probe.open() as probe:
        other = await beside(telewarm, spool, probe)
        other.store.then = meddle
        async with other.library.receive() as incoming:
            await incoming.write(jpeg(0))
            added = await other.library.add(session.bot, incoming)
    spool.close()

    assert added.created
    assert (telewarm.settings.store_folder / added.item.storage_key).read_bytes() == jpeg(0)
    assert await hasty(telewarm).collect() == 0


async def test_an_addition_and_a_collection_at_the_same_moment_wait_for_each_other(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    """Whoever locks the tombstone first: the item has its bytes in the end."""
    for seed in range(3):
        [media_id] = await add_photos(idle_telewarm, session, 1, first=seed)
        await idle_telewarm.library.delete(session.bot, [media_id])
        adding = [add_bytes(idle_telewarm, session, jpeg(seed)) for _ in range(3)]
        collecting = [hasty(idle_telewarm).collect() for _ in range(2)]
        await asyncio.gather(*collecting, *adding)
        await hasty(idle_telewarm).collect()

    rows = await idle_telewarm.pool.fetch("SELECT storage_key FROM media JOIN blob USING (sha256)")
    assert len(rows) == 3
    for row in rows:
        assert (idle_telewarm.settings.store_folder / row["storage_key"]).exists()


class Away(BlobStore):
    """A store that does not delete."""

    async def delete(self, key: str) -> None:
        raise StoreUnavailable(f"no {key} is deleted today")


async def test_a_store_that_does_not_answer_keeps_the_rest_for_later(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    media_ids = await add_photos(idle_telewarm, session, 3)
    await idle_telewarm.library.delete(session.bot, media_ids)
    away = Away(idle_telewarm.collector._store._backend, timeout_seconds=5)

    assert await hasty(idle_telewarm, store=away).collect() == 0
    assert await idle_telewarm.pool.fetchval("SELECT count(*) FROM blob_tombstone WHERE collected_at IS NULL") == 3
    assert await hasty(idle_telewarm).collect() == 3
    assert kept(idle_telewarm) == []


async def test_objects_of_a_process_that_was_killed_while_it_added_them_are_found(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    [media_id] = await add_photos(idle_telewarm, session, 1)
    folder, old = idle_telewarm.settings.store_folder, (clock.now() - timedelta(days=2)).timestamp()
    unknown_objects = [
        folder / f"media/aa/{'a' * 64}.jpg",
        folder / f"thumbnails/aa/{'a' * 64}.jpg",
        folder / f"media/bb/{'b' * 64}.mp4",
    ]
    young, foreign = folder / f"media/cc/{'c' * 64}.jpg", folder / "media/readme.txt"
    for path in (*unknown_objects, young, foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for path in folder.rglob("*.*"):
        if path != young:
            os.utime(path, (old, old))

    assert await idle_telewarm.collector.find_orphaned_objects() == 2
    assert await idle_telewarm.collector.find_orphaned_objects() == 0
    assert await hasty(idle_telewarm).collect() == 2

    assert [path for path in (*unknown_objects, young, foreign) if path.exists()] == [young, foreign]
    item = await media.get(idle_telewarm.pool, media_id)
    assert (folder / item.storage_key).exists()


async def test_a_deleted_item_is_sent_by_no_process_any_more(telewarm_with: Opener) -> None:
    one, two = await telewarm_with(), await telewarm_with(worker=False)
    session = await add_bot(one)
    media_ids = await add_photos(one, session, 2)
    await until_ready(one, *media_ids)
    for telewarm in (one, two):
        await telewarm.send("bot-0", READER, message_of(*media_ids))

    await one.library.delete(session.bot, media_ids[:1])

    for telewarm in (one, two):
        while telewarm.sender._file_ids.get(media_ids[0]) is not None:
            await clock.sleep(0.005)
        with pytest.raises(NotFound):
            await telewarm.send("bot-0", READER, message_of(*media_ids))
        assert telewarm.sender._file_ids.get(media_ids[1]) is not None


async def test_an_item_that_is_deleted_while_it_is_uploaded_stays_away(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    late = sandbox.state.faults.add(Rule(action="hang", method="sendPhoto", when="after", seconds=0.2))
    [media_id] = await add_photos(telewarm, session, 1)
    while not late.hit:
        await clock.sleep(0.005)
    assert (await telewarm.library.delete(session.bot, [media_id])).media_ids == [media_id]
    while telewarm.worker.status().in_flight:
        await clock.sleep(0.005)

    assert sandbox.state.stats.total.uploads == 1
    assert await telewarm.pool.fetchval("SELECT count(*) FROM media") == 0
    [again] = await add_photos(telewarm, session, 1)
    await until_ready(telewarm, again)


async def test_a_name_is_changed_and_taken_away(idle_telewarm: Telewarm, session: BotSession) -> None:
    [media_id] = await add_photos(idle_telewarm, session, 1)
    for name in ("кот.jpg", None):
        assert (await idle_telewarm.library.rename(media_id, name)).name == name
    with pytest.raises(NotFound):
        await idle_telewarm.library.rename(MediaId(4711), "x")


async def test_more_than_can_be_named_at_once_is_refused(idle_telewarm: Telewarm, session: BotSession) -> None:
    many = [MediaId(number) for number in range(1, 10_002)]
    with pytest.raises(UsageError, match="10000"):
        await idle_telewarm.library.delete(session.bot, many)
    with pytest.raises(UsageError, match="10000"):
        await idle_telewarm.library.rewarm_selected(session.bot, many)


async def test_the_short_ways_delete_media_and_take_a_bot_away_and_back(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    stays, goes = await add_photos(idle_telewarm, session, 2)
    slug = session.bot.slug

    assert (await idle_telewarm.delete(slug, [goes, MediaId(4711)])).media_ids == [goes]
    await idle_telewarm.delete_bot(slug)
    with pytest.raises(BotDeleted, match=r"tw\.undelete_bot"):
        await idle_telewarm.delete(slug, [stays])
    assert (await idle_telewarm.undelete_bot(slug)).id == session.bot.id
    assert [item.id for item in (await idle_telewarm.library.page(session.bot)).items] == [stays]
