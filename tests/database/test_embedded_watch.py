"""The embedded PostgreSQL comes back when it dies, is never started twice, and says in one sentence what it lacks."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
from structlog.testing import capture_logs

from telewarm.database.embedded import owner, place
from telewarm.database.embedded.locks import FileLock
from telewarm.database.embedded.server import EmbeddedPostgres, database_url_for
from telewarm.errors import EmbeddedPostgresFailed
from tests.database.test_embedded import as_root, ask, postmaster, running, server_processes, stopped

LOOK = 0.05
SHARING = """
import asyncio, sys
from pathlib import Path
from telewarm.database.embedded.server import database_url_for

async def main():
    async with database_url_for(None, Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


@asynccontextmanager
async def sharing(data: Path, *before: str) -> AsyncIterator[tuple[Process, str]]:
    """A process that uses and watches the folder's server; what it says first: its URL, or why it failed."""
    process = await asyncio.create_subprocess_exec(
        *before, *(sys.executable, "-c", SHARING, str(data)), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        said = (await process.stdout.readline()).decode().strip()
        yield process, said or (await process.stderr.read()).decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def answer(url: str, query: str = "SELECT 1") -> object:
    """Once somebody answers; the test's own time limit bounds it."""
    while True:
        try:
            return await ask(url, query)
        except (OSError, asyncpg.PostgresError):
            await asyncio.wait([asyncio.create_task(asyncio.to_thread(lambda: None))], timeout=LOOK)


def masters(data: Path) -> list[psutil.Process]:
    """The postmasters of a folder: those whose parent is none of the server's."""
    parents = {}
    for process in server_processes(data / "postgres"):
        with suppress(psutil.NoSuchProcess):
            parents[process] = process.ppid()
    numbers = {process.pid for process in parents}
    return [process for process, parent in parents.items() if parent not in numbers]


def kill_the_server(data: Path) -> int:
    pid = postmaster(data / "postgres")
    os.kill(pid, signal.SIGKILL)
    return pid


async def test_a_server_that_dies_is_back_within_seconds_with_all_that_was_committed(data_folder: Path) -> None:
    async with database_url_for(None, data_folder) as url:
        await ask(url, "CREATE TABLE kept AS SELECT 7 AS number")
        with capture_logs() as logs:
            for _ in range(2):
                pid = kill_the_server(data_folder)
                async with asyncio.timeout(15):
                    assert await answer(url, "SELECT number FROM kept") == 7
                assert postmaster(data_folder / "postgres") != pid
        reported = [line["event"] for line in logs]
        assert "embedded_postgres_lost" in reported  # once for both, when the second came during the first restart
    assert stopped(data_folder / "postgres")


async def test_several_processes_that_lose_the_server_start_one(data_folder: Path) -> None:
    async with sharing(data_folder) as (_, url), sharing(data_folder), sharing(data_folder):
        kill_the_server(data_folder)
        async with asyncio.timeout(15):
            await answer(url)
        assert len(masters(data_folder)) == 1


async def test_a_killed_starter_that_takes_the_server_along_leaves_it_to_the_others(data_folder: Path) -> None:
    async with sharing(data_folder) as (starter, url), sharing(data_folder):
        starter.kill()
        kill_the_server(data_folder)
        async with asyncio.timeout(15):
            await answer(url)
        assert len(masters(data_folder)) == 1


async def test_whoever_comes_while_the_server_is_dead_joins_the_one_that_is_started(data_folder: Path) -> None:
    async with sharing(data_folder) as (_, url):
        kill_the_server(data_folder)
        async with database_url_for(None, data_folder) as joined:
            assert joined == url
            assert await ask(joined, "SELECT 1") == 1
            assert len(masters(data_folder)) == 1


async def test_a_socket_folder_that_somebody_cleaned_away_is_made_again(data_folder: Path) -> None:
    data = data_folder / ("long-" * 20)
    async with database_url_for(None, data) as url:
        socket = Path(str(await ask(url, "SHOW unix_socket_directories")))
        assert str(socket).startswith("/tmp/")  # noqa: S108 (that is what is tested)
        await asyncio.to_thread(shutil.rmtree, socket)
        async with asyncio.timeout(30):
            assert await answer(url) == 1
        assert len(masters(data)) == 1
    assert stopped(data / "postgres")
    await asyncio.to_thread(shutil.rmtree, socket)


async def test_a_stop_that_none_of_its_users_asked_for_is_undone(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telewarm.database.embedded.watch.STOP_GRACE_SECONDS", 0.1)
    async with database_url_for(None, data_folder) as url:
        connection = await asyncpg.connect(url)  # the stop waits for it
        os.kill(postmaster(data_folder / "postgres"), signal.SIGTERM)  # as a service manager does to a whole group
        try:
            async with asyncio.timeout(20):
                assert await answer(url) == 1
        finally:
            connection.terminate()


async def test_a_server_that_cannot_come_back_is_tried_again_and_says_why(data_folder: Path) -> None:
    async with database_url_for(None, data_folder) as url:
        config = data_folder / "postgres" / "cluster" / "postgresql.conf"
        right = config.read_text()
        config.write_text(right + "\nno_such_setting = 1\n")
        with capture_logs() as logs:
            kill_the_server(data_folder)
            async with asyncio.timeout(20):
                while not any(line["event"] == "embedded_postgres_restart_failed" for line in logs):
                    await asyncio.to_thread(psutil.wait_procs, [], LOOK)
            config.write_text(right)
            assert "no_such_setting" in next(str(line["error"]) for line in logs if "error" in line)
            async with asyncio.timeout(30):
                assert await answer(url) == 1


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
async def test_another_container_that_cannot_reach_the_server_is_refused_and_starts_none(data_folder: Path) -> None:
    data = data_folder / ("long-" * 20)  # its socket is in /tmp, of which each container has one of its own
    apart = ("unshare", "--mount", "--pid", "--fork", "--mount-proc")
    async with running(data / "postgres") as server:
        hidden = Path(str(await ask(server.url, "SHOW unix_socket_directories")))
        moved = hidden.with_name(f"{hidden.name}-elsewhere")
        os.rename(hidden, moved)  # noqa: PTH104 - what the other container sees: no socket there
        try:
            async with sharing(data, *apart) as (_, said):
                assert "is in use in another container or on another host" in said
                assert "one data folder is for one host" in said
        finally:
            await asyncio.to_thread(shutil.rmtree, hidden, ignore_errors=True)
            os.rename(moved, hidden)  # noqa: PTH104
        assert await ask(server.url, "SELECT 1") == 1
        assert len(masters(data)) == 1


async def test_a_server_that_lives_where_nobody_here_can_see_it_is_not_joined_by_a_second(data_folder: Path) -> None:
    async with running(data_folder / "postgres"):
        pass
    elsewhere = FileLock(data_folder / "postgres" / "server.lock")
    assert elsewhere.acquire()
    try:
        with pytest.raises(EmbeddedPostgresFailed, match="one data folder is for one host"):
            await EmbeddedPostgres.start(data_folder / "postgres")
    finally:
        elsewhere.close()
    assert stopped(data_folder / "postgres")
    async with running(data_folder / "postgres") as server:
        assert await ask(server.url, "SELECT 1") == 1


async def test_where_locks_do_not_reach_another_host_its_signs_of_life_do(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "OTHER_HOST_TIMEOUT_SECONDS", 1.0)
    async with running(data_folder / "postgres"):
        pass
    note = data_folder / "postgres" / "server.host"
    note.write_text(json.dumps({"host": "other-host", "boot": "another kernel"}))

    async def touch() -> None:
        while True:
            os.utime(note)
            await asyncio.to_thread(psutil.wait_procs, [], LOOK)

    touching = asyncio.create_task(touch())
    try:
        with pytest.raises(EmbeddedPostgresFailed, match=r"on another host \(other-host\): one data folder"):
            await EmbeddedPostgres.start(data_folder / "postgres")
    finally:
        touching.cancel()
    async with running(data_folder / "postgres") as server:  # a host that died has none: its data are taken over
        assert await ask(server.url, "SELECT 1") == 1


async def test_a_copy_of_a_running_folder_is_a_database_of_its_own(data_folder: Path) -> None:
    async with database_url_for(None, data_folder / "first") as url:
        await ask(url, "CREATE TABLE kept AS SELECT 7 AS number")
        await ask(url, "CHECKPOINT")
        copying = await asyncio.create_subprocess_exec("cp", "-a", data_folder / "first", data_folder / "copy")
        assert await copying.wait() == 0
        async with database_url_for(None, data_folder / "copy") as copy:
            assert await ask(copy, "SELECT number FROM kept") == 7
            await ask(copy, "DROP TABLE kept")
        assert await ask(url, "SELECT number FROM kept") == 7


@as_root
async def test_no_account_is_made_and_the_servers_user_is_nobody_elses(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "SYSTEM_ACCOUNT", "no-such-account")
    before = pwd.getpwall()
    for _ in range(2):
        async with running(data_folder / "postgres") as server:
            assert await ask(server.url, "SELECT 1") == 1
            users = {process.uids().effective for process in server_processes(data_folder / "postgres")}
    assert users == {owner.CANDIDATE_USER_IDS.start}
    with pytest.raises(KeyError):
        pwd.getpwuid(owner.CANDIDATE_USER_IDS.start)
    assert pwd.getpwall() == before


@as_root
async def test_data_that_belong_to_an_account_stay_its_own(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(data_folder / "postgres"):
        first = (data_folder / "postgres" / "cluster").stat().st_uid
    monkeypatch.setattr(owner, "SYSTEM_ACCOUNT", "no-such-account")
    async with running(data_folder / "postgres") as server:
        assert await ask(server.url, "SELECT 1") == 1
        assert (data_folder / "postgres" / "cluster").stat().st_uid == first


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("no right to mount")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@as_root
@pytest.mark.parametrize("size", ["8m", "20m"])
async def test_a_full_disk_is_one_sentence_with_the_cure_and_leaves_nothing_running(
    data_folder: Path, size: str
) -> None:
    with small_disk(data_folder, size) as disk:
        with pytest.raises(EmbeddedPostgresFailed) as failed:
            await EmbeddedPostgres.start(disk / "data" / "postgres", durable=False)
        assert str(failed.value).startswith(f"The disk of {disk}/data/postgres is too small (")
        assert "free some space" in str(failed.value)
        assert "\n" not in str(failed.value)
        assert not server_processes(disk / "data" / "postgres")


@as_root
async def test_a_disk_that_fills_up_while_it_runs_brings_the_server_back_once_there_is_room(data_folder: Path) -> None:
    with small_disk(data_folder, "150m") as disk:
        async with database_url_for(None, disk / "data") as url:
            await ask(url, "CREATE TABLE kept AS SELECT 7 AS number")
            filler = disk / "filler"
            with pytest.raises(OSError, match="No space"):
                filler.write_bytes(bytes(150 << 20))
            kill_the_server(disk / "data")
            filler.unlink()
            async with asyncio.timeout(30):
                assert await answer(url, "SELECT number FROM kept") == 7


def may_run_python(*prefix: str) -> bool:
    return subprocess.run([*prefix, sys.executable, "-c", ""], check=False, capture_output=True).returncode == 0


@as_root
async def test_a_user_without_an_account_is_told_what_the_database_needs(data_folder: Path) -> None:
    os.chown(data_folder, 12345, 12345)
    os.chmod(data_folder, 0o700)  # noqa: PTH101
    stranger = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
    if not may_run_python(*stranger):
        pytest.skip("this Python lies where others may not read")
    async with sharing(data_folder / "data", *stranger) as (_, said):
        assert "The user with the number 12345 has no account on this system" in said
        assert "or set DATABASE_URL" in said
    assert not server_processes(data_folder / "data" / "postgres")
