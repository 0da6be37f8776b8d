"""What only a library in a folder does: link, sync, and share one round of syncs between puts."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import rmtree

import pytest

from telewarm.errors import ObjectCorrupt, StoreUnavailable
from telewarm.models import Sha256
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.incoming_file import IncomingFile
from telewarm.storage.keys import blob_key
from telewarm.storage.object_store import BlobStore


def photo(folder: Path) -> tuple[str, Path, Sha256]:
    data = os.urandom(1000)
    sha256 = Sha256(hashlib.sha256(data).hexdigest())
    path = folder / sha256
    path.write_bytes(data)
    return blob_key(sha256, "jpg"), path, sha256


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the operating system was asked to sync, in order, while it really does."""
    paths: list[str] = []
    really = os.fsync

    def fsync(handle: int) -> None:
        paths.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        really(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


async def test_a_file_on_the_same_filesystem_is_linked_and_not_copied(folder_store: BlobStore, tmp_path: Path) -> None:
    key, path, sha256 = photo(tmp_path)
    await folder_store.put_file(key, path, sha256=sha256, bytes=1000)
    assert (tmp_path / "library" / key).samefile(path)


async def received(spool: BlobCache, store: BlobStore, *, then: Callable[[IncomingFile], None]) -> bool:
    """Put what came in, by its seal, when `then` has been at it. Whether it was stored."""
    data = os.urandom(1000)
    async with spool.receive() as incoming:
        await incoming.write(data)
        sha256, seal = incoming.sha256, incoming.fingerprint
        then(incoming)
        return await store.put_file(blob_key(sha256, "jpg"), incoming.path, sha256=sha256, bytes=1000, fingerprint=seal)


def later(path: Path) -> None:
    """The file system's clock ticks every few milliseconds."""
    at = path.stat().st_mtime_ns + 10_000_000
    os.utime(path, ns=(at, at))


def damaged(incoming: IncomingFile) -> None:
    incoming.path.write_bytes(b"?" * 1000)
    later(incoming.path)


def damaged_and_dated_back(incoming: IncomingFile) -> None:
    dated = incoming.path.stat().st_mtime_ns
    incoming.path.write_bytes(b"?" * 1000)
    os.utime(incoming.path, ns=(dated, dated))


def replaced(incoming: IncomingFile) -> None:
    dated = incoming.path.stat().st_mtime_ns
    other = incoming.path.with_name("other")
    other.write_bytes(b"?" * 1000)
    os.utime(other, ns=(dated, dated))
    other.replace(incoming.path)


async def test_what_came_in_is_not_hashed_again_while_nobody_has_written_to_it(
    folder_store: BlobStore, tmp_path: Path
) -> None:
    with closing(BlobCache(tmp_path / "spool", store=folder_store)) as spool:
        assert await received(spool, folder_store, then=lambda _: None)
        assert await received(spool, folder_store, then=damaged_and_dated_back), "it was read again"


@pytest.mark.parametrize("then", [damaged, replaced])
async def test_what_somebody_wrote_to_since_it_came_in_is_hashed_again(
    folder_store: BlobStore, tmp_path: Path, then: Callable[[IncomingFile], None]
) -> None:
    with (
        closing(BlobCache(tmp_path / "spool", store=folder_store)) as spool,
        pytest.raises(ObjectCorrupt, match="Nothing was stored"),
    ):
        await received(spool, folder_store, then=then)


async def test_a_touched_file_that_is_still_the_same_is_stored(folder_store: BlobStore, tmp_path: Path) -> None:
    with closing(BlobCache(tmp_path / "spool", store=folder_store)) as spool:
        assert await received(spool, folder_store, then=lambda incoming: later(incoming.path))


async def test_a_put_syncs_the_file_and_every_folder_above_it(
    folder_store: BlobStore, tmp_path: Path, synced: list[str]
) -> None:
    key, path, sha256 = photo(tmp_path)
    await folder_store.put_file(key, path, sha256=sha256, bytes=1000)
    target = tmp_path / "library" / key
    assert set(synced) == {str(target), *(str(target.parents[up]) for up in range(3))}


async def test_what_is_above_a_folder_is_synced_once_and_again_when_the_folder_had_to_be_made_anew(
    folder_store: BlobStore, tmp_path: Path, synced: list[str]
) -> None:
    shelf, above = tmp_path / "library/shelf", {str(tmp_path / "library")}
    await folder_store.put_bytes("shelf/one", b"one")
    assert above <= set(synced)
    synced.clear()
    await folder_store.put_bytes("shelf/two", b"two")
    assert set(synced) == {str(shelf), str(shelf / "two")} | {path for path in synced if "/.two." in path}
    rmtree(shelf)
    synced.clear()
    await folder_store.put_bytes("shelf/two", b"two")
    assert above <= set(synced)


async def test_a_second_put_vouches_for_the_disk_too(
    folder_store: BlobStore, tmp_path: Path, synced: list[str]
) -> None:
    key, path, sha256 = photo(tmp_path)
    await folder_store.put_file(key, path, sha256=sha256, bytes=1000)
    synced.clear()
    assert not await folder_store.put_file(key, path, sha256=sha256, bytes=1000)
    assert str(tmp_path / "library" / key) in synced


async def test_puts_that_come_together_share_their_syncs(
    folder_store: BlobStore, tmp_path: Path, synced: list[str]
) -> None:
    photos = [photo(tmp_path) for _ in range(40)]
    puts = (folder_store.put_file(key, path, sha256=sha256, bytes=1000) for key, path, sha256 in photos)
    assert all(await asyncio.gather(*puts))
    assert synced.count(str(tmp_path / "library")) <= 2


async def test_a_disk_that_will_not_sync_fails_the_put(
    folder_store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    key, path, sha256 = photo(tmp_path)
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        await folder_store.put_file(key, path, sha256=sha256, bytes=1000)


async def test_where_links_are_not_to_be_had_files_are_copied(
    folder_store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    key, path, sha256 = photo(tmp_path)
    assert await folder_store.put_file(key, path, sha256=sha256, bytes=1000)
    stored = tmp_path / "library" / key
    assert stored.read_bytes() == path.read_bytes()
    assert not stored.samefile(path)
    assert list(stored.parent.iterdir()) == [stored]
