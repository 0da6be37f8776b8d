"""Object store in a folder. obstore reads; the writes are our own, since obstore does not fsync."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from obstore.store import LocalStore, ObjectStore

from telewarm import folders
from telewarm.errors import ObjectMissing, StoreError, StoreUnavailable
from telewarm.storage.config import FolderConfig
from telewarm.storage.put_source import PutSource
from telewarm.storage.thread_batcher import ThreadBatcher, in_thread

LARGE_BLOB_BYTES = 8 << 20  # larger blobs get a thread of their own, so that small ones do not wait


@dataclass(frozen=True, kw_only=True, slots=True)
class AtomicWrite:
    """A file to write atomically."""

    content: PutSource
    target: Path


class FilesystemBackend:
    """Concurrent small puts share one thread and one round of syncs (group commit)."""

    def __init__(self, config: FolderConfig) -> None:
        """Create the folder. Raises StoreUnavailable."""
        self._root = config.root.absolute()
        try:
            folders.make_private(self._root)
        except OSError as error:
            raise self.explain(error, "") from error
        self.objects: ObjectStore = LocalStore(self._root)
        self._synced_folders: set[Path] = set()  # folders whose own entries are synced
        self._batch_commits = ThreadBatcher(self._commit, name="store-folder-writer")

    async def put(self, key: str, content: PutSource) -> bool:
        """Write a file, synced to disk with its folders. On the same file system it is linked, not copied."""
        put = AtomicWrite(content=content, target=self._root / key)
        if content.size <= LARGE_BLOB_BYTES:
            return await self._batch_commits(put)
        [outcome] = await in_thread(lambda: self._commit([put]))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def presigned_get(self, key: str, *, expires: int, now: datetime) -> None:  # noqa: ARG002 - a folder has no URLs
        """Return None: a folder has no URLs."""
        return

    def public_url(self, key: str) -> None:  # noqa: ARG002 - a folder has no URLs
        """Return None: a folder has no URLs."""
        return

    def explain(self, error: Exception, key: str) -> StoreError:
        """Convert an error of the disk or of obstore."""
        if isinstance(error, FileNotFoundError):
            return ObjectMissing(
                f"{key} is not in the folder {self._root}. Was it deleted, or is this another library?"
            )
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return StoreUnavailable(
            f"The library folder {self._root} cannot be used: {reason}. Check that it is mounted, that this user may"
            " write to it and that the disk has room."
        )

    def _commit(self, puts: Sequence[AtomicWrite]) -> Sequence[bool | Exception]:
        """Write all, then sync all: the first sync of a journalling file system covers most of the others."""
        outcomes = [self._write_or_error(put) for put in puts]
        written = [put.target for put, outcome in zip(puts, outcomes, strict=True) if isinstance(outcome, bool)]
        parents = {target.parent for target in written}
        above = {
            up for folder in parents - self._synced_folders for up in folder.parents if up.is_relative_to(self._root)
        }
        try:
            for path in (*written, *(parents | above)):
                _sync(path)
        except OSError as error:
            return [outcome if isinstance(outcome, Exception) else error for outcome in outcomes]
        self._synced_folders |= parents
        return outcomes

    def _write_or_error(self, put: AtomicWrite) -> bool | Exception:
        try:
            return self._write(put.content, put.target)
        except (OSError, StoreError) as error:
            return error

    def _write(self, content: PutSource, target: Path) -> bool:
        content.verify()
        if not target.parent.is_dir():
            folders.make_private_below(self._root, target.parent)
            self._synced_folders.discard(target.parent)  # deleted meanwhile
        if isinstance(content.source, Path) and _try_link(content.source, target):
            return True
        if target.exists() and content.matches(target):
            return False
        _copy(content, target)
        return True


def _try_link(source: Path, target: Path) -> bool:
    with suppress(OSError):  # exists, is on another file system, or cannot be linked: then compare and copy
        target.hardlink_to(source)
        return True
    return False


def _copy(content: PutSource, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{token_hex(4)}")
    try:
        if isinstance(content.source, Path):
            with content.source.open("rb") as source, os.fdopen(folders.create_private(temporary), "wb") as file:
                shutil.copyfileobj(source, file, LARGE_BLOB_BYTES)
        else:
            folders.write_private(temporary, content.source)
        _sync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
