"""One contract for every kind of library: a folder, and two S3 servers that we did not write."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from telewarm.errors import ObjectCorrupt, ObjectMissing
from telewarm.models import Sha256
from telewarm.storage.blob_reader import BlobReader, BlobSource
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.keys import blob_key
from telewarm.storage.object_store import BlobStore

Result = TypeVar("Result")
MIB = 1 << 20


class File:
    """A file of random bytes, and what is known of it."""

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(exist_ok=True)
        self.data = os.urandom(size)
        self.sha256 = Sha256(hashlib.sha256(self.data).hexdigest())
        self.path = folder / self.sha256
        self.path.write_bytes(self.data)
        self.key = blob_key(self.sha256, "jpg")

    async def put(self, store: BlobStore) -> bool:
        return await store.put_file(self.key, self.path, sha256=self.sha256, bytes=len(self.data))


def source_of(file: File) -> BlobSource:
    return BlobSource(sha256=file.sha256, key=file.key, bytes=len(file.data))


async def read(store: BlobStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.stream(key)])


async def peak_growth(work: Awaitable[Result]) -> tuple[Result, int]:
    """The result, and how many bytes this process grew by on the way."""
    process = psutil.Process()
    before = peak = process.memory_info().rss
    running = asyncio.ensure_future(work)
    while not running.done():
        await asyncio.wait([running], timeout=0.005)
        peak = max(peak, process.memory_info().rss)
    return await running, peak - before


@pytest.fixture
def photo(tmp_path: Path) -> File:
    return File(tmp_path / "in", 200_000)


async def test_what_was_put_comes_out_again(store: BlobStore, photo: File) -> None:
    assert await photo.put(store)
    assert await store.size(photo.key) == 200_000
    assert await read(store, photo.key) == photo.data


async def test_a_second_put_writes_nothing(store: BlobStore, photo: File) -> None:
    assert await photo.put(store)
    assert not await photo.put(store)


async def test_the_file_may_go_once_it_is_stored(store: BlobStore, photo: File) -> None:
    await photo.put(store)
    photo.path.unlink()
    assert await read(store, photo.key) == photo.data


async def test_a_file_that_changed_since_it_was_hashed_is_refused(store: BlobStore, photo: File) -> None:
    photo.path.write_bytes(photo.data[:-1] + b"?")
    with pytest.raises(ObjectCorrupt, match=photo.sha256):
        await photo.put(store)
    assert await store.size(photo.key) is None


async def test_a_file_of_another_size_is_refused(store: BlobStore, photo: File) -> None:
    with pytest.raises(ObjectCorrupt, match="Nothing was stored"):
        await store.put_file(photo.key, photo.path, sha256=photo.sha256, bytes=199_999)
    assert await store.size(photo.key) is None


async def test_a_file_that_vanished_is_missing(store: BlobStore, photo: File) -> None:
    photo.path.unlink()
    with pytest.raises(ObjectMissing, match=photo.sha256):
        await photo.put(store)


@pytest.mark.parametrize("damage", [b"?" * 200_000, b"short", b""])
async def test_wrong_bytes_under_a_key_are_replaced(store: BlobStore, photo: File, damage: bytes) -> None:
    await store.put_bytes(photo.key, damage)
    assert await photo.put(store)
    assert await read(store, photo.key) == photo.data


async def test_small_values_are_put_and_replaced(store: BlobStore, photo: File) -> None:
    assert await store.put_bytes(photo.key, b"one")
    assert not await store.put_bytes(photo.key, b"one")
    assert await store.put_bytes(photo.key, b"two")
    assert await read(store, photo.key) == b"two"


async def test_an_empty_value_is_a_value(store: BlobStore, photo: File) -> None:
    assert await store.put_bytes(photo.key, b"")
    assert not await store.put_bytes(photo.key, b"")
    assert await store.size(photo.key) == 0
    assert await read(store, photo.key) == b""


async def test_what_is_not_there_is_missing(store: BlobStore, photo: File) -> None:
    assert await store.size(photo.key) is None
    with pytest.raises(ObjectMissing, match=photo.key):
        await read(store, photo.key)


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(store: BlobStore, photo: File) -> None:
    await photo.put(store)
    await store.delete(photo.key)
    assert await store.size(photo.key) is None
    await store.delete(photo.key)


async def test_many_puts_at_once_all_arrive(store: BlobStore, tmp_path: Path) -> None:
    files = [File(tmp_path / "in", 20_000) for _ in range(100)]
    assert all(await asyncio.gather(*(file.put(store) for file in files)))
    assert [await read(store, file.key) for file in files] == [file.data for file in files]


async def test_one_bad_file_among_many_fails_alone(store: BlobStore, tmp_path: Path) -> None:
    files = [File(tmp_path / "in", 1000) for _ in range(20)]
    files[7].path.write_bytes(b"?")
    outcomes = await asyncio.gather(*(file.put(store) for file in files), return_exceptions=True)
    assert isinstance(outcomes.pop(7), ObjectCorrupt)
    assert outcomes == [True] * 19


async def test_the_same_blob_put_twice_at_once_is_whole(store: BlobStore, photo: File) -> None:
    await asyncio.gather(*(photo.put(store) for _ in range(5)))
    assert await read(store, photo.key) == photo.data


async def test_a_large_file_is_put_in_parts_and_known_again(store: BlobStore, tmp_path: Path) -> None:
    film = File(tmp_path / "in", 20 * MIB + 1)
    assert await film.put(store)
    assert not await film.put(store)
    assert await read(store, film.key) == film.data


async def test_large_files_stream_through_flat_memory(store: BlobStore, tmp_path: Path) -> None:
    film = File(tmp_path / "in", 96 * MIB)
    film.data = b""  # not ours to measure
    digest = hashlib.sha256()

    async def out() -> int:
        total = 0
        async for chunk in store.stream(film.key):
            digest.update(chunk)
            total += len(chunk)
        return total

    put = store.put_file(film.key, film.path, sha256=film.sha256, bytes=96 * MIB)
    written, grown_in = await peak_growth(put)
    read_back, grown_out = await peak_growth(out())
    assert written
    assert (read_back, digest.hexdigest()) == (96 * MIB, film.sha256)
    assert grown_in < 64 * MIB
    assert grown_out < 32 * MIB


async def test_the_check_passes_as_often_as_it_is_asked(store: BlobStore) -> None:
    await store.check_writable()
    await store.check_writable()


async def test_the_check_leaves_nothing(folder_store: BlobStore, tmp_path: Path) -> None:
    await folder_store.check_writable()
    assert [path for path in (tmp_path / "library").rglob("*") if path.is_file()] == []


async def test_a_cancelled_put_does_not_harm_the_next(store: BlobStore, photo: File) -> None:
    put = asyncio.create_task(photo.put(store))
    await asyncio.wait([put], timeout=0)
    put.cancel()
    await asyncio.wait([put])
    await photo.put(store)
    assert await read(store, photo.key) == photo.data


@pytest.mark.parametrize(("begin", "end"), [(0, 1), (0, 300_000), (1, 900_000), (899_999, 900_000), (299_000, 899_000)])
async def test_a_part_of_an_object_is_read_as_a_range_wherever_it_is(
    store: BlobStore, tmp_path: Path, begin: int, end: int
) -> None:
    film = File(tmp_path / "in", 900_000)
    await film.put(store)
    assert (
        b"".join([chunk async for chunk in store.stream_range(film.key, begin=begin, end=end)]) == film.data[begin:end]
    )
    spool = BlobCache(tmp_path / "spool", store=store)
    try:
        reader = BlobReader(store=store, disk_cache=spool)
        for hot in (False, True):
            if hot:
                async with spool.open(film.sha256, film.key):
                    pass
            with spool.pin_if_cached(film.sha256) as file:
                assert (file is not None) is hot
            pieces = [chunk async for chunk in reader.read(source_of(film), begin, end)]
            assert b"".join(pieces) == film.data[begin:end]
    finally:
        spool.close()


async def test_an_object_that_is_shorter_than_it_should_be_is_never_taken_for_the_whole(
    store: BlobStore, photo: File, tmp_path: Path
) -> None:
    await store.put_bytes(photo.key, photo.data[:-5])
    spool = BlobCache(tmp_path / "spool", store=store)
    try:
        read = BlobReader(store=store, disk_cache=spool).read(source_of(photo), 0, len(photo.data))
        with pytest.raises(ObjectCorrupt, match="5 bytes too short"):
            _ = [chunk async for chunk in read]
    finally:
        spool.close()
