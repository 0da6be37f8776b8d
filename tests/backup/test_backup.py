"""What was saved is what is restored, from any kind of database and store into any other; anything else is refused."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import pytest

from telewarm.backup import RestoreResult, RestoreTarget, restore, save
from telewarm.backup import saving as savings
from telewarm.component_config import encryption_key, existing_key, key_file
from telewarm.database import copies
from telewarm.database.embedded.server import EmbeddedPostgres, database_url_for
from telewarm.database.migrate import check_migrated, migrate, newest_revision, revisions, upgrade_script
from telewarm.database.token_encryption import TokenCipher
from telewarm.errors import BackupError, Conflict, DatabaseForbidden, DatabaseUnavailable, SettingsError
from telewarm.models import BroadcastState, ChatId, DeliveryStatus, MessageSet
from telewarm.runtime import Telewarm
from telewarm.settings import Settings
from telewarm.storage.config import FolderConfig, S3Config
from telewarm.storage.object_store import BlobStore
from tests.broadcast.stage import draft
from tests.database.test_embedded import as_root
from tests.database.test_ready import role
from tests.fixtures.app import Opener, add_bot, add_photos, message_of, readers, until_ready
from tests.fixtures.postgres import fresh_database

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
OLD_PROGRAMS = Path("/usr/lib/postgresql/15/bin")


def nothing(_: int) -> None:
    pass


async def contents(url: str) -> dict[str, list[str]]:
    """Every row of ours, by table, but for what tells of processes and of the server."""
    found: dict[str, list[str]] = {}
    async with copies.connect_without_timeouts(url, "test") as connection:
        for table, columns in (await copies.columns(connection)).items():
            if table.startswith("event") or table == "installation":
                continue
            rows = bytearray()

            async def take(chunk: bytes, rows: bytearray = rows) -> None:
                rows.extend(chunk)

            await copies.copy_out(connection, table, columns, take)
            found[table] = sorted(rows.decode().splitlines())
    return found


@asynccontextmanager
async def opened(config: FolderConfig | S3Config) -> AsyncIterator[BlobStore]:
    store = BlobStore.open(config)
    try:
        yield store
    finally:
        await store.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Somewhere to restore to."""

    url: str
    data: Path
    store: BlobStore
    key: bytes | None = None

    async def take(self, archive: Path, *, force: bool = False, mark: bool = True) -> RestoreResult:
        with archive.open("rb") as file:
            return await self.take_from(file, force=force, mark=mark)

    async def take_from(
        self,
        file: io.BufferedIOBase,
        *,
        force: bool = False,
        mark: bool = True,
        report: Callable[[int], None] = nothing,
    ) -> RestoreResult:
        target = RestoreTarget(
            url=self.url,
            key=self.key,
            key_file=self.data / "encryption.key",
            store=self.store,
            data_folder=self.data,
        )
        return await restore(file, target, force=force, mark=mark, on_bytes=report)  # type: ignore[arg-type]


@pytest.fixture
async def place(empty_database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    data = tmp_path / "elsewhere"
    data.mkdir()
    async with opened(FolderConfig(root=data / "media")) as store:
        yield Place(url=empty_database_url, data=data, store=store)


async def filled(telewarm: Telewarm) -> None:
    """Two bots, media that are warm and cold, a chat that blocked one, a draft, an audit, events."""
    for number in range(2):
        session = await add_bot(telewarm, number)
        await until_ready(telewarm, *await add_photos(telewarm, session, 3, first=10 * number))
        await draft(telewarm.broadcasts, session, *map(str, readers(50)), "not a chat, with a \\ and a \t tab")


@pytest.fixture
async def archive(telewarm_with: Opener, tmp_path: Path) -> tuple[Path, Opener]:
    """Of a library with media; nothing runs on it any more."""
    file = tmp_path / "backup.tar"
    async with telewarm_with.stack:
        telewarm = await telewarm_with()
        await filled(telewarm)
        await telewarm.worker.stop()
        await telewarm.backup(file, media=True)
    return file, telewarm_with


def settings_of(opener: Opener) -> Settings:
    return Settings.from_environ(opener.environ(), None)


async def test_what_was_saved_is_what_is_restored(archive: tuple[Path, Opener], place: Place) -> None:
    file, opener = archive
    before = await contents(opener.database_url)
    restored = await place.take(file, mark=False)
    assert await contents(place.url) == before
    assert restored.objects == 6
    assert (place.data / "encryption.key").read_bytes().decode() == encryption_key(settings_of(opener)).hex()
    assert stat.S_IMODE((place.data / "encryption.key").stat().st_mode) == 0o600


async def test_a_restored_library_works_on_its_own(archive: tuple[Path, Opener], place: Place) -> None:
    file, opener = archive
    await place.take(file)
    elsewhere = replace_opener(opener, place)
    async with elsewhere.stack:
        telewarm = await elsewhere()
        session = await telewarm.bots.by_slug("bot-0")
        page = await add_photos(telewarm, session, 1, first=99)
        await until_ready(telewarm, *page)
        async with telewarm.pool.acquire() as connection:
            ids = [row["id"] for row in await connection.fetch("SELECT id FROM media ORDER BY id")]
        assert page[0] == ids[-1] == 7
        for result in await telewarm.sender.send(session, ChatId(4242), message_of(ids[0])):
            assert result.error is None


def replace_opener(opener: Opener, place: Place) -> Opener:
    return Opener(database_url=place.url, data=place.data, sandbox=opener.sandbox)


async def test_from_ones_own_postgres_into_the_embedded_one_and_back(
    archive: tuple[Path, Opener], place: Place, data_folder: Path
) -> None:
    file, opener = archive
    before = await contents(opener.database_url)
    async with database_url_for(None, data_folder / "data") as url:
        embedded = replace(place, url=url)
        await embedded.take(file, mark=False)
        assert await contents(url) == before
        back = data_folder / "back.tar"
        await save(url, back, key=KEY, store=None, on_bytes=nothing)
    with pytest.raises(SettingsError):  # neither the archive's key nor the one that is here sealed the tokens
        await replace(place, key=OTHER_KEY).take(back)
    assert await contents(place.url) == {}
    await replace(place, key=encryption_key(settings_of(opener))).take(back, mark=False)
    assert await contents(place.url) == before


async def test_media_move_from_a_folder_to_s3_and_back(
    archive: tuple[Path, Opener], place: Place, rclone: S3Config, tmp_path: Path
) -> None:
    file, _ = archive
    async with opened(rclone) as bucket:
        await replace(place, store=bucket).take(file)
        key = encryption_key_of(place)
        back = tmp_path / "back.tar"
        saved = await save(place.url, back, key=key, store=bucket, on_bytes=nothing)
        assert (saved.objects, saved.missing) == (6, [])
    with tarfile.open(file) as first, tarfile.open(back) as second:
        assert media_of(first) == media_of(second) != {}


def media_of(tar: tarfile.TarFile) -> dict[str, int]:
    return {member.name: member.size for member in tar if member.name.startswith("media/")}


def encryption_key_of(place: Place) -> bytes:
    return bytes.fromhex((place.data / "encryption.key").read_text())


async def test_a_backup_of_a_running_broadcast_is_of_one_moment_and_is_restored_paused(
    telewarm_with: Opener, place: Place, tmp_path: Path
) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    [broadcast] = await telewarm.broadcasts.create([session], MessageSet(text="hello"))
    lines = "\n".join(map(str, readers(3000))).encode()
    await telewarm.broadcasts.load(broadcast.id, one(lines))
    await telewarm.broadcasts.start(broadcast.id)
    while not (await telewarm.broadcasts.get(broadcast.id)).counts.get(DeliveryStatus.SENT):
        pass
    file = tmp_path / "running.tar"
    await telewarm.backup(file)
    restored = await place.take(file)
    assert restored.paused == 1
    async with copies.connect_without_timeouts(place.url, "test") as connection:
        row = await connection.fetchrow("SELECT * FROM broadcast JOIN broadcast_run ON broadcast_id = id")
        delivered = await connection.fetchval("SELECT count(*) FROM delivery")
    assert row is not None
    assert row["state"] == BroadcastState.PAUSED
    assert "telewarm broadcast resume" in row["reason"]
    assert 0 < delivered == row["sent"] < 3000


async def one(lines: bytes) -> AsyncIterator[bytes]:
    yield lines


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.3, 0.7, 0.95, 0.9999])
async def test_an_archive_that_was_cut_off_changes_nothing(
    archive: tuple[Path, Opener], place: Place, tmp_path: Path, share: float
) -> None:
    file, opener = archive
    data = file.read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: int((len(data) - 2048) * share)])
    before = await contents(opener.database_url)
    here = replace(place, url=opener.database_url, key=KEY)
    with pytest.raises(BackupError, match=r"damaged|cut off|no backup"):
        await here.take(tmp_path / "cut.tar", force=True)
    assert await contents(opener.database_url) == before
    with pytest.raises(BackupError):
        await place.take(tmp_path / "cut.tar")
    assert await contents(place.url) == {}
    assert not (place.data / "encryption.key").exists()


async def test_a_single_wrong_byte_changes_nothing(archive: tuple[Path, Opener], place: Place, tmp_path: Path) -> None:
    file, opener = archive
    data = bytearray(file.read_bytes())
    at = data.index(b"bot-0")  # in a row of the table
    data[at] ^= 1
    (tmp_path / "wrong.tar").write_bytes(data)
    before = await contents(opener.database_url)
    with pytest.raises(BackupError, match="is not what was saved"):
        await replace(place, url=opener.database_url, key=encryption_key(settings_of(opener))).take(
            tmp_path / "wrong.tar", force=True
        )
    assert await contents(opener.database_url) == before


@dataclass(kw_only=True, slots=True)
class Interrupted:
    """Cancels the task that reads once as many bytes were read."""

    after: int

    def __call__(self, more: int) -> None:
        self.after -= more
        task = asyncio.current_task()
        if self.after < 0 and task is not None:
            task.cancel()


async def test_a_restore_that_is_interrupted_leaves_what_was_there(archive: tuple[Path, Opener], place: Place) -> None:
    file, opener = archive
    before = await contents(opener.database_url)
    here = replace(place, url=opener.database_url, key=encryption_key(settings_of(opener)))
    for share in (0.01, 0.2, 0.4):
        read = Interrupted(after=int(share * file.stat().st_size))
        with file.open("rb") as source, pytest.raises(asyncio.CancelledError):
            await here.take_from(source, force=True, report=read)
        assert await contents(opener.database_url) == before


async def test_a_library_is_replaced_only_when_that_is_said(archive: tuple[Path, Opener], place: Place) -> None:
    file, opener = archive
    here = replace(place, url=opener.database_url, key=encryption_key(settings_of(opener)))
    with pytest.raises(Conflict, match="restore with --force"):
        await here.take(file)
    async with copies.connect_without_timeouts(opener.database_url, "test") as connection:
        await connection.execute("DELETE FROM rejected")
    await here.take(file, force=True)
    assert (await contents(opener.database_url))["rejected"]


async def test_nothing_is_restored_under_a_telewarm_that_runs(archive: tuple[Path, Opener], place: Place) -> None:
    file, opener = archive
    here = replace(place, url=opener.database_url, key=KEY)
    other = Opener(database_url=opener.database_url, data=opener.data, sandbox=opener.sandbox)
    async with other.stack:
        await other(worker=False)
        with pytest.raises(Conflict, match=r"Telewarm runs on this database \(.*\): stop it"):
            await here.take(file, force=True)


async def test_a_backup_of_a_newer_version_is_refused(
    archive: tuple[Path, Opener], place: Place, tmp_path: Path
) -> None:
    file, _ = archive
    newer = file.read_bytes().replace(f'"revision":"{newest_revision()}"'.encode(), b'"revision":"9999"')
    (tmp_path / "newer.tar").write_bytes(newer)
    with pytest.raises(BackupError, match=r"made by a newer Telewarm .*: upgrade Telewarm"):
        await place.take(tmp_path / "newer.tar")


async def test_a_backup_of_an_older_version_is_brought_up_to_date(
    postgres_server: str, place: Place, tmp_path: Path, next_version: str
) -> None:
    old = revisions()[-2]
    async with fresh_database(postgres_server) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(upgrade_script(None, old))
        await connection.execute(
            "INSERT INTO bot (slug, telegram_id, token_sealed, warmup_chats) VALUES ('old', 1, $1, '{1}')",
            TokenCipher(KEY).encrypt("1:token", telegram_id=1),
        )
        await connection.close()
        await save(url, tmp_path / "old.tar", key=KEY, store=None, on_bytes=nothing)
    await migrate(place.url)  # something else is there, of this version
    restored = await place.take(tmp_path / "old.tar")
    assert (restored.manifest.revision, newest_revision()) == (old, next_version)
    async with copies.connect_without_timeouts(place.url, "test") as connection:
        await check_migrated(connection)
        assert await connection.fetchval("SELECT slug FROM bot") == "old"
    assert await migrate(place.url) == []


async def test_without_its_key_a_backup_is_restored_only_where_that_key_is(
    archive: tuple[Path, Opener], place: Place, tmp_path: Path
) -> None:
    _, opener = archive
    right = encryption_key(settings_of(opener))
    bare = tmp_path / "bare.tar"
    await save(opener.database_url, bare, key=None, store=None, on_bytes=nothing)
    assert right.hex().encode() not in bare.read_bytes()
    for key in (None, OTHER_KEY):
        with pytest.raises(BackupError, match="set ENCRYPTION_KEY, or put the key into"):
            await replace(place, key=key).take(bare)
    assert await contents(place.url) == {}
    await replace(place, key=right).take(bare)


async def test_the_key_that_is_here_stays_and_seals_what_comes(archive: tuple[Path, Opener], place: Place) -> None:
    file, opener = archive
    await replace(place, key=OTHER_KEY).take(file)
    assert not (place.data / "encryption.key").exists()
    elsewhere = replace_opener(opener, place)
    async with elsewhere.stack:
        telewarm = await elsewhere({"ENCRYPTION_KEY": OTHER_KEY.hex()}, worker=False)
        assert (await telewarm.bots.by_slug("bot-0")).bot.slug == "bot-0"


async def test_an_archive_is_its_owners_alone_whole_or_not_there_and_never_overwritten(
    telewarm_with: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telewarm = await telewarm_with(worker=False)
    folder = tmp_path / "backups"
    folder.mkdir()
    before = os.umask(0)
    try:
        await telewarm.backup(folder / "one.tar")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "one.tar").stat().st_mode) == 0o600
    with pytest.raises(BackupError, match="exists already"):
        await telewarm.backup(folder / "one.tar")
    monkeypatch.setattr(savings, "TABLE_MEMBER_BYTES", 0)
    with pytest.raises(BackupError, match="write it elsewhere"):
        await telewarm.backup(tmp_path / "no" / "such" / "folder.tar")
    assert [path.name for path in folder.iterdir()] == ["one.tar"]


async def test_what_a_killed_backup_left_goes_with_the_next_and_nothing_else_does(
    telewarm_with: Opener, tmp_path: Path
) -> None:
    telewarm = await telewarm_with(worker=False)
    dead, living, other = (tmp_path / name for name in (".b.tar.0123abcd", ".b.tar.89abcdef", ".b.tar.mine"))
    for path in (dead, living, other):
        path.write_bytes(b"half a backup")
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        await telewarm.backup(tmp_path / "b.tar")
    assert names_in(tmp_path) >= {living.name, other.name, "b.tar"}
    assert dead.name not in names_in(tmp_path)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_database_that_is_away_is_no_fault_of_the_disk(postgres_server: str, tmp_path: Path) -> None:
    del postgres_server
    store = BlobStore.open(FolderConfig(root=tmp_path / "media"))
    with pytest.raises(DatabaseUnavailable):
        await save("postgresql://nobody@127.0.0.1:1/x", tmp_path / "b.tar", key=None, store=store, on_bytes=nothing)
    assert names_in(tmp_path) == {"media"}


async def test_a_missing_object_is_named_and_the_rest_is_saved(archive: tuple[Path, Opener], tmp_path: Path) -> None:
    _, opener = archive
    settings = settings_of(opener)
    [gone, *_] = sorted((settings.store_folder / "media").rglob("*.jpg"))
    gone.unlink()
    async with opened(FolderConfig(root=settings.store_folder)) as store:
        saved = await save(opener.database_url, tmp_path / "part.tar", key=KEY, store=store, on_bytes=nothing)
    assert [Path(key).name for key in saved.missing] == [gone.name]
    assert saved.objects == 5
    assert existing_key(settings) == bytes.fromhex(key_file(settings).read_text())


@as_root
@pytest.mark.skipif(not OLD_PROGRAMS.exists(), reason="needs a PostgreSQL of another major version")
async def test_the_embedded_database_moves_to_another_major_version(
    archive: tuple[Path, Opener], place: Place, data_folder: Path
) -> None:
    from telewarm.cli.backup import _upgrade

    file, opener = archive
    key = encryption_key(settings_of(opener))
    data = data_folder / "data"
    async with database_url_for(None, data):
        pass
    folder = data / "postgres"
    owner = (folder / "cluster").stat()
    (folder / "cluster").rename(folder / "unused")
    (folder / "new").mkdir()
    os.chown(folder / "new", owner.st_uid, owner.st_gid)
    init = [OLD_PROGRAMS / "initdb", "-D", folder / "new", "--auth=trust", "--username=telewarm", "--encoding=UTF8"]
    await asyncio.to_thread(
        subprocess.run,
        [*map(str, init), "--locale=C"],
        user=owner.st_uid,
        group=owner.st_gid,
        check=True,
        capture_output=True,
        cwd="/",
    )
    (folder / "new").rename(folder / "cluster")
    old = await EmbeddedPostgres.start(folder, programs=OLD_PROGRAMS)
    try:
        await replace(place, url=old.url, key=key).take(file, mark=False)
        before = await contents(old.url)
    finally:
        await old.stop()
    settings = Settings.from_environ({"TELEWARM_DATA": str(data), "ENCRYPTION_KEY": key.hex()}, None)
    kept = await _upgrade(settings, OLD_PROGRAMS, nothing)
    assert kept is not None
    assert (kept / "PG_VERSION").read_text().strip() == "15"
    async with database_url_for(None, data) as url:
        assert await contents(url) == before
    assert await _upgrade(settings, OLD_PROGRAMS, nothing) is None


async def test_a_role_without_rights_is_told_which_it_needs(archive: tuple[Path, Opener], place: Place) -> None:
    file, opener = archive
    async with role(opener.database_url) as url:
        for work in (save(url, place.data / "b.tar", key=KEY, store=None, on_bytes=nothing), migrate(url)):
            with pytest.raises(DatabaseForbidden, match=r"The role role_\w+ may not .*GRANT .* TO \"role_"):
                await work
        with pytest.raises(DatabaseForbidden, match="use the role that owns the tables"):
            await replace(place, url=url, key=KEY).take(file, force=True)
    assert (await contents(opener.database_url))["bot"]
