"""The demo as a stranger runs it: a command in a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from telewarm.database.embedded.server import database_url_for

pytestmark = pytest.mark.timeout(60)  # whole programs start; mostly it takes a few seconds
FILES = ("sunset.jpg", "waves.png", "film.mp4", "dance.gif", "song.mp3", "note.ogg", "leaflet.pdf")


@asynccontextmanager
async def command(data: Path, *words: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`telewarm …` with that data folder, killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "telewarm", *words,
        env={"PATH": "/usr/bin:/bin", "TELEWARM_DATA": str(data), "COLUMNS": "120", **environ},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # to the end of its pipes


def rows(printed: str) -> dict[str, list[str]]:
    """The cells of the table, by file name."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    return {cells[1]: cells for cells in lines}


async def test_the_demo_warms_every_file_once_for_two_bots_and_ends_after_the_table(data_folder: Path) -> None:
    picture = data_folder / "demo.svg"
    async with command(data_folder, "demo", "--once", "--svg", str(picture)) as demo:
        out, err = await demo.communicate()
        assert (demo.returncode, err.decode()) == (0, "")
    table = rows(out.decode())
    assert tuple(table) == FILES
    for name, cells in table.items():
        assert {cells[3], cells[5]} == {"upload", "forward"}, name
        assert cells[-1] == "1", name
    assert "answered 429 to 0." in out.decode()
    assert "url(http" not in picture.read_text()


async def test_a_killed_demo_leaves_no_sandbox_behind(data_folder: Path) -> None:
    async with command(data_folder, "demo", "--once") as demo:
        assert demo.stdout is not None
        while not (await demo.stdout.readline()).startswith(b"The first media item"):
            assert not demo.stdout.at_eof()
        sandboxes = [child for child in psutil.Process(demo.pid).children() if "sandbox" in child.cmdline()]
        assert len(sandboxes) == 1
        demo.kill()
        assert psutil.wait_procs(sandboxes, timeout=5)[1] == []
    async with database_url_for(None, data_folder / "demo"):
        pass  # the database outlives the kill on purpose; whoever comes next and leaves stops it


async def test_the_demo_serves_until_it_is_interrupted_and_leaves_nothing_running(data_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with command(data_folder, "demo", "--port", str(port)) as demo:
        assert demo.stdout is not None
        printed = ""
        while "/send\n" not in printed:
            line = await demo.stdout.readline()
            assert line
            printed += line.decode()
        children = psutil.Process(demo.pid).children(recursive=True)
        assert children
        token = re.search(r"TOKEN=(\S+)", printed)
        assert token is not None
        headers = {"Authorization": f"Bearer {token[1]}"}
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session,
            session.get("/api/admin/bots/shop/media?state=ready") as answer,
        ):
            assert json.loads(await answer.text())["count"] == len(FILES)
        demo.send_signal(signal.SIGINT)
        assert await demo.wait() == 0
        assert psutil.wait_procs(children, timeout=5)[1] == []
