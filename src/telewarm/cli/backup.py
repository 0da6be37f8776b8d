"""`telewarm backup`, `restore` and `upgrade-database`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from telewarm.backup import BackupResult, BackupService, RestoreResult, RestoreTarget, restore, save, temporary_folder
from telewarm.cli.common import pluralize
from telewarm.cli.console import echo_err
from telewarm.cli.env import read_settings
from telewarm.cli.run import run
from telewarm.component_config import encryption_key, existing_key, key_file, store_config
from telewarm.database.embedded.server import EmbeddedPostgres, database_url_for
from telewarm.database.embedded.upgrading import bundled_version, cluster_version, set_aside
from telewarm.database.ready import prepare_data_folder
from telewarm.errors import UsageError
from telewarm.settings import Settings
from telewarm.storage.object_store import BlobStore

STDIO = Path("-")


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write; `-` is standard output.", show_default=False)],
    *,
    media: Annotated[bool, typer.Option("--media", help="Put the media in too, wherever they are kept.")] = False,
    no_key: Annotated[bool, typer.Option("--no-key", help="Leave the encryption key out: keep it elsewhere.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
) -> None:
    """Save the database and the encryption key in one archive, while everything goes on working.

    The archive holds secrets: only its owner may read it. It restores into any PostgreSQL from 14 on, embedded or not.
    """
    settings = read_settings()
    target = None if file == STDIO else file
    with _bytes_progress("Saving", None) as report:
        saved = run(_backup(settings, target, media=media, key=not no_key, force=force, report=report))
    held = "without the encryption key" if no_key else "with the encryption key: keep it secret"
    objects = f", {pluralize(saved.objects, 'file', 'files')} of media" if media else ""
    echo_err(f"Saved {pluralize(saved.tables, 'table', 'tables')}{objects} to {file}, {held}")
    if saved.missing:
        echo_err(
            f"{pluralize(len(saved.missing), 'file is', 'files are')} missing in the store, such as {saved.missing[0]}"
        )


def restore_backup(
    file: Annotated[Path, typer.Argument(help="The archive to read; `-` is standard input.", show_default=False)],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the library that is in the database.")] = False,
) -> None:
    """Put a backup into the database, with its key and media, all of it or nothing.

    Nothing may run on the database meanwhile. Broadcasts that were running or scheduled are paused: what was sent since
    the backup is not known. An archive of an older version is brought up to date.
    """
    settings = read_settings()
    with _open_archive(file) as source:
        size = None if file == STDIO else file.stat().st_size
        with _bytes_progress("Restoring", size) as report:
            restored = run(_restore(settings, source, force=force, report=report))
    _print_restored(settings, restored)


def upgrade_database(
    programs: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="The bin folder of the old PostgreSQL.", show_default=False),
    ],
) -> None:
    """Move the embedded database to the major version of PostgreSQL that this Telewarm brings along.

    It is read with the programs of the old version, and its files stay beside the new ones until you delete them.
    """
    settings = read_settings()
    with _bytes_progress("Upgrading", None) as report:
        kept = run(_upgrade(settings, programs.absolute(), report))
    if kept is None:
        echo_err("The embedded database is of this version already: nothing to do")
    else:
        echo_err(f"Upgraded. The old files are in {kept}: delete them once all is well")


async def _backup(
    settings: Settings, target: Path | None, *, media: bool, key: bool, force: bool, report: Callable[[int], None]
) -> BackupResult:
    async with _database_url(settings) as (url, store):
        backups = BackupService(url=url, store=store, key=lambda: encryption_key(settings))
        return await backups.save(target, media=media, key=key, force=force, on_bytes=report)


async def _restore(
    settings: Settings, source: IO[bytes], *, force: bool, report: Callable[[int], None]
) -> RestoreResult:
    async with _database_url(settings) as (url, store):
        return await restore(source, _restore_target(settings, url, store), force=force, on_bytes=report)


async def _upgrade(settings: Settings, programs: Path, report: Callable[[int], None]) -> Path | None:
    """Where the old files are now. None: there was nothing to do."""
    data = settings.telewarm_data
    if settings.database_url is not None:
        raise UsageError("DATABASE_URL is set: a PostgreSQL of your own is upgraded by its own means")
    if cluster_version(data) in {None, bundled_version()}:
        return None
    store = BlobStore.open(store_config(settings))
    try:
        with temporary_folder(data) as folder:
            archive = folder / "upgrade.tar"
            old = await EmbeddedPostgres.start(data / "postgres", programs=programs)
            try:
                await save(old.url, archive, key=None, store=None, on_bytes=report)
            finally:
                await old.stop()
            async with set_aside(data) as kept, database_url_for(None, data) as url:
                with archive.open("rb") as source:
                    await restore(
                        source, _restore_target(settings, url, store), force=False, on_bytes=report, mark=False
                    )
            return kept
    finally:
        await store.close()


@asynccontextmanager
async def _database_url(settings: Settings) -> AsyncIterator[tuple[str, BlobStore]]:
    given = settings.database_url.get_secret_value() if settings.database_url else None
    await asyncio.to_thread(prepare_data_folder, settings.telewarm_data)
    async with database_url_for(given, settings.telewarm_data) as url:
        store = BlobStore.open(store_config(settings))
        try:
            yield url, store
        finally:
            await store.close()


def _restore_target(settings: Settings, url: str, store: BlobStore) -> RestoreTarget:
    return RestoreTarget(
        url=url,
        key=existing_key(settings),
        key_file=key_file(settings),
        store=store,
        data_folder=settings.telewarm_data,
    )


def _print_restored(settings: Settings, restored: RestoreResult) -> None:
    made = restored.manifest.created_at
    objects = f", {pluralize(restored.objects, 'file', 'files')} of media" if restored.manifest.media else ""
    echo_err(f"Restored the backup of {made}{objects}")
    if restored.key_written:
        echo_err(f"Its encryption key is in {key_file(settings)}")
    if restored.paused:
        echo_err(
            f"{pluralize(restored.paused, 'broadcast was', 'broadcasts were')} running or scheduled and "
            "paused now: telewarm broadcast list"
        )
    if restored.missing:
        echo_err(
            f"{pluralize(restored.missing, 'file was', 'files were')} missing in the store when the backup was made"
        )


@contextmanager
def _open_archive(file: Path) -> Iterator[IO[bytes]]:
    if file == STDIO:
        yield sys.stdin.buffer
        return
    try:
        source = file.open("rb")
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}") from error
    with source:
        yield source


@contextmanager
def _bytes_progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
