"""The disk cache: hot blobs on disk, fetched once, held while open, evicted by last use, shared between processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from telewarm.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable
from telewarm.models import Sha256
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.incoming_file import IncomingFile
from telewarm.storage.keys import blob_key
from telewarm.storage.object_store import BlobStore


class Blob:
    def __init__(self, size: int = 1000) -> None:
        self.data = os.urandom(size)
        self.sha256 = Sha256(hashlib.sha256(self.data).hexdigest())
        self.key = blob_key(self.sha256, "bin")


class CountingStore(BlobStore):
    """A real store that counts its streams and lets them go on when told."""

    streams = 0

    def __init__(self, store: BlobStore) -> None:
        super().__init__(store._backend, timeout_seconds=5)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.reached = asyncio.Event()

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        self.streams += 1
        self.reached.set()
        await self.go_on.wait()
        async for chunk in super().stream(key):
            yield chunk


@pytest.fixture
def library(folder_store: BlobStore) -> CountingStore:
    return CountingStore(folder_store)


@contextmanager
def spool_in(folder: Path, store: BlobStore) -> Iterator[BlobCache]:
    opened = BlobCache(folder / "spool", max_bytes=10_000, store=store)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def spool(library: CountingStore, tmp_path: Path) -> Iterator[BlobCache]:
    with spool_in(tmp_path, library) as opened:
        yield opened


async def stored(library: BlobStore, size: int = 1000) -> Blob:
    blob = Blob(size)
    await library.put_bytes(blob.key, blob.data)
    return blob


async def adopted(spool: BlobCache, blob: Blob) -> None:
    async with spool.receive() as incoming:
        await incoming.write(blob.data)
        await spool.insert(incoming, blob.sha256)


async def read(spool: BlobCache, blob: Blob) -> bytes:
    async with spool.open(blob.sha256, blob.key) as path:
        return path.read_bytes()


def held(folder: Path) -> set[str]:
    return {path.name for path in (folder / "spool" / "blobs").iterdir()}


def received(folder: Path) -> list[Path]:
    return [path for path in (folder / "spool" / "incoming").glob("*/*") if path.is_file()]


async def test_a_fresh_upload_is_opened_without_reading_the_store(spool: BlobCache, library: CountingStore) -> None:
    blob = Blob()
    await adopted(spool, blob)
    assert await read(spool, blob) == blob.data
    assert library.streams == 0


async def test_a_blob_is_read_from_the_store_once(spool: BlobCache, library: CountingStore) -> None:
    blob = await stored(library)
    assert [await read(spool, blob) for _ in range(3)] == [blob.data] * 3
    assert library.streams == 1


async def test_a_thousand_openers_at_once_share_one_fetch(spool: BlobCache, library: CountingStore) -> None:
    blob = await stored(library)
    assert set(await asyncio.gather(*(read(spool, blob) for _ in range(1000)))) == {blob.data}
    assert library.streams == 1


async def test_what_is_received_is_hashed_and_counted_as_it_comes(spool: BlobCache) -> None:
    blob = Blob(9_000_000)
    async with spool.receive() as incoming:
        for start in range(0, len(blob.data), 700_000):
            await incoming.write(blob.data[start : start + 700_000])
        assert incoming.sha256 == blob.sha256
        assert incoming.bytes == 9_000_000
        assert incoming.path.read_bytes() == blob.data


async def test_what_is_not_adopted_is_gone(spool: BlobCache, tmp_path: Path) -> None:
    async with spool.receive() as incoming:
        await incoming.write(b"half")
        assert received(tmp_path) == [incoming.path]
    assert received(tmp_path) == []


async def test_what_is_kept_can_be_adopted_later(spool: BlobCache, library: CountingStore) -> None:
    blob = Blob()
    async with spool.receive() as incoming:
        await incoming.write(blob.data)
        incoming.keep()
    await spool.insert(incoming.path, blob.sha256)
    assert await read(spool, blob) == blob.data
    assert library.streams == 0


@pytest.mark.parametrize("kept", [True, False])
async def test_bytes_with_another_hash_are_not_adopted(spool: BlobCache, tmp_path: Path, kept: object) -> None:
    async with spool.receive() as incoming:
        await incoming.write(b"other bytes")
        with pytest.raises(ObjectCorrupt, match="damaged"):
            await spool.insert(incoming.path if kept else incoming, Blob().sha256)
    assert held(tmp_path) == set()


async def test_the_same_blob_may_be_adopted_twice(spool: BlobCache, tmp_path: Path) -> None:
    blob = Blob()
    await adopted(spool, blob)
    await adopted(spool, blob)
    assert held(tmp_path) == {blob.sha256}
    assert spool._bytes == 1000


async def test_a_damaged_object_is_reported_to_all_and_not_kept(
    spool: BlobCache, library: CountingStore, tmp_path: Path
) -> None:
    blob = Blob()
    await library.put_bytes(blob.key, b"other bytes")
    outcomes = await asyncio.gather(*(read(spool, blob) for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ObjectCorrupt] * 5
    assert (held(tmp_path), received(tmp_path)) == (set(), [])


async def test_a_failure_is_forgotten(spool: BlobCache, library: CountingStore) -> None:
    blob = Blob()
    with pytest.raises(ObjectMissing):
        await read(spool, blob)
    await library.put_bytes(blob.key, blob.data)
    assert await read(spool, blob) == blob.data


async def test_a_cancelled_waiter_leaves_the_fetch_to_the_others(spool: BlobCache, library: CountingStore) -> None:
    blob = await stored(library)
    library.go_on.clear()
    first, second = (asyncio.create_task(read(spool, blob)) for _ in range(2))
    await library.reached.wait()
    first.cancel()
    await asyncio.wait([first])
    library.go_on.set()
    assert await second == blob.data
    assert first.cancelled()
    assert library.streams == 1


async def test_the_last_waiter_that_gives_up_ends_the_fetch(
    spool: BlobCache, library: CountingStore, tmp_path: Path
) -> None:
    blob = await stored(library)
    library.go_on.clear()
    waiters = [asyncio.create_task(read(spool, blob)) for _ in range(3)]
    await library.reached.wait()
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    assert {task.get_name() for task in asyncio.all_tasks()}.isdisjoint({f"spool-fetch-{blob.sha256[:12]}"})
    assert received(tmp_path) == []
    library.go_on.set()
    assert await read(spool, blob) == blob.data


async def test_the_blobs_used_longest_ago_go_first(spool: BlobCache, tmp_path: Path) -> None:
    blobs = [Blob() for _ in range(10)]
    for blob in blobs:
        await adopted(spool, blob)
    await read(spool, blobs[0])
    newest = Blob()
    await adopted(spool, newest)
    assert held(tmp_path) == {blob.sha256 for blob in (blobs[0], *blobs[3:], newest)}


async def test_the_spool_never_holds_more_than_its_bound(spool: BlobCache, tmp_path: Path) -> None:
    for _ in range(60):
        await adopted(spool, Blob())
        assert len(held(tmp_path)) * 1000 <= 10_000


async def test_an_open_blob_is_never_evicted(spool: BlobCache) -> None:
    opened = Blob()
    await adopted(spool, opened)
    async with spool.open(opened.sha256, opened.key) as path:
        for _ in range(30):
            await adopted(spool, Blob())
        assert path.read_bytes() == opened.data


async def test_a_blob_larger_than_the_spool_is_served_all_the_same(
    spool: BlobCache, library: CountingStore, tmp_path: Path
) -> None:
    blob = await stored(library, 50_000)
    assert await read(spool, blob) == blob.data
    for _ in range(3):
        await adopted(spool, Blob())
    assert blob.sha256 not in held(tmp_path)


async def test_an_evicted_blob_is_fetched_again(spool: BlobCache, library: CountingStore) -> None:
    blob = await stored(library)
    await read(spool, blob)
    for _ in range(20):
        await adopted(spool, Blob())
    assert await read(spool, blob) == blob.data
    assert library.streams == 2


async def test_a_restart_finds_its_blobs_and_their_order_again(library: CountingStore, tmp_path: Path) -> None:
    blobs = [Blob() for _ in range(10)]
    with spool_in(tmp_path, library) as spool:
        for blob in blobs:
            await adopted(spool, blob)
    with spool_in(tmp_path, library) as again:
        assert await read(again, blobs[0]) == blobs[0].data
        await adopted(again, Blob())
    assert held(tmp_path) > {blobs[0].sha256, *(blob.sha256 for blob in blobs[3:])}
    assert len(held(tmp_path)) == 9
    assert library.streams == 0


async def test_a_blob_damaged_on_disk_between_two_runs_is_fetched_again(
    spool: BlobCache, library: CountingStore, tmp_path: Path
) -> None:
    blob = await stored(library)
    (tmp_path / "spool" / "blobs" / blob.sha256).write_bytes(b"zeros after a power cut")
    assert await read(spool, blob) == blob.data
    assert library.streams == 1


RECEIVE_AND_WAIT = """
import sys
from pathlib import Path
from telewarm.storage import cache_files

own, lock = cache_files.open_private_folder(Path(sys.argv[1]))
(own / "half").write_bytes(b"half")
print(own, flush=True)
sys.stdin.read()
"""


@pytest.mark.process
async def test_what_dead_processes_were_receiving_is_deleted_and_what_living_ones_are_stays(
    spool: BlobCache, library: CountingStore, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", RECEIVE_AND_WAIT, str(tmp_path / "spool" / "incoming")]
    other = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert other.stdout is not None
    theirs = Path((await other.stdout.readline()).decode().strip()) / "half"
    async with spool.receive() as incoming:
        with spool_in(tmp_path, library):
            assert set(received(tmp_path)) == {theirs, incoming.path}
        other.kill()
        await other.wait()
        with spool_in(tmp_path, library):
            assert received(tmp_path) == [incoming.path]


async def test_two_spools_on_one_folder_keep_each_others_open_blobs(
    spool: BlobCache, library: CountingStore, tmp_path: Path
) -> None:
    with spool_in(tmp_path, library) as other:
        blobs = [Blob() for _ in range(5)]
        async with AsyncExitStack() as opened:
            for blob in blobs:
                await adopted(spool, blob)
                path = await opened.enter_async_context(spool.open(blob.sha256, blob.key))
            for _ in range(40):
                await adopted(other, Blob())
            assert {blob.sha256 for blob in blobs} <= held(tmp_path)
            assert path.read_bytes() == blobs[-1].data
        assert await read(other, blobs[0]) == blobs[0].data
        assert library.streams == 0


async def test_two_spools_on_one_folder_see_each_others_blobs(
    spool: BlobCache, library: CountingStore, tmp_path: Path
) -> None:
    with spool_in(tmp_path, library) as other:
        blob = await stored(library)
        assert await read(spool, blob) == await read(other, blob) == blob.data
        assert library.streams == 1


async def test_churn_by_many_openers_never_serves_wrong_bytes(spool: BlobCache, library: CountingStore) -> None:
    blobs = [await stored(library) for _ in range(30)]
    order = [blobs[i * 7 % 30] for i in range(600)]
    results = await asyncio.gather(*(read(spool, blob) for blob in order))
    assert results == [blob.data for blob in order]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
async def test_a_full_disk_is_reported_with_its_cure() -> None:
    incoming = IncomingFile(Path("/dev/full"))
    with pytest.raises(StoreUnavailable, match="Free some disk space"):
        await incoming.write(b"x" * 10)
    incoming.close()


async def test_a_cancelled_writer_leaves_no_file_and_no_open_thread(spool: BlobCache, tmp_path: Path) -> None:
    async def receive() -> None:
        async with spool.receive() as incoming:
            for _ in range(100):
                await incoming.write(bytes(1_000_000))

    writer = asyncio.create_task(receive())
    await asyncio.wait([writer], timeout=0.02)
    writer.cancel()
    await asyncio.wait([writer])
    assert writer.cancelled()
    assert received(tmp_path) == []
