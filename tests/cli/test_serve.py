"""`telewarm serve` as a process, on a real port: it starts, serves, and ends when told."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telewarm import clock
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.fixtures.app import READER, Opener
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import token

ADMIN = "the-admin-token-of-the-tests"
BEARER = {"Authorization": f"Bearer {ADMIN}"}
BOTS = "/api/admin/bots"
BOT = {"slug": "shop", "token": token(0), "warmup_chats": [-1007]}
START_LINE = "[MEDIA][PREWARM][WORKER][START] { interval_ms: 2000, concurrency: 5, max_queue_size: 500 }"
END = 10.0  # seconds a process has to end when told
SERVES = re.compile(r"Telewarm is running at (http://\S+) ")


@dataclass(slots=True)
class Serve:
    """A running `telewarm serve`; `said` is its standard error so far, which nothing else may go to."""

    process: asyncio.subprocess.Process
    said: str = ""
    url: str = ""
    reading: asyncio.Task[None] | None = field(default=None, repr=False)

    async def until_serving(self) -> None:
        assert self.process.stderr is not None
        while not (found := SERVES.search(self.said)):
            line = await self.process.stderr.readline()
            assert line, self.said
            self.said += line.decode()
        self.url = found[1]
        self.reading = asyncio.create_task(self._read_on())

    async def end(self, number: signal.Signals) -> int:
        """Its exit code, within the time it has."""
        self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), END)
        if self.reading is not None:
            await self.reading
        return code

    async def _read_on(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said += line.decode()


async def launch(folder: Path, *options: str, **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "telewarm", "serve", *options,
        cwd=folder, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@asynccontextmanager
async def serving(folder: Path, *options: str, **environ: str) -> AsyncIterator[Serve]:
    process = await launch(folder, "--port", "0", *options, **environ)
    serve = Serve(process)
    try:
        await serve.until_serving()
        yield serve
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if serve.reading is not None:
            await serve.reading


async def refused(folder: Path, *options: str, **environ: str) -> str:
    """What it says when it does not start."""
    process = await launch(folder, *options, **environ)
    out, err = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 1
    assert out == b""
    assert "Traceback" not in err.decode()
    return " ".join(err.decode().split())


async def status_of(request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> int:
    async with request as answer:
        return answer.status


async def body_of(request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> dict[str, Any]:
    """The JSON of a good answer."""
    async with request as answer:
        assert answer.ok
        body: dict[str, Any] = await answer.json()
        return body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_a_signal_and_ends_cleanly(
    telewarm_with: Opener, tmp_path: Path, number: signal.Signals
) -> None:
    async with serving(tmp_path, **telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)) as serve:
        async with aiohttp.ClientSession(serve.url) as session:
            assert await body_of(session.get("/healthz")) == {"ok": True}
            assert await status_of(session.post(BOTS, json=BOT)) == 401
            assert await status_of(session.post(BOTS, json=BOT, headers=BEARER)) == 201
        assert await serve.end(number) == 0
    assert serve.said.count(START_LINE) == 1
    assert "Traceback" not in serve.said
    assert token(0).partition(":")[2] not in serve.said


async def test_it_warms_what_is_put_in_until_it_is_ready(telewarm_with: Opener, tmp_path: Path) -> None:
    async with (
        serving(tmp_path, **telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)) as serve,
        aiohttp.ClientSession(serve.url, headers=BEARER) as session,
    ):
        assert await status_of(session.post(BOTS, json=BOT)) == 201
        put = await body_of(session.post(f"{BOTS}/shop/media", data=jpeg(1)))
        status = ""
        while status != "ready":
            await clock.sleep(0.02)
            shown = await body_of(session.get(f"/api/admin/media/{put['media_id']}"))
            status = shown["media"]["cache"]["status"]
        assert await serve.end(signal.SIGTERM) == 0


async def test_without_a_worker_it_serves_alone(telewarm_with: Opener, tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-worker", **telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)) as serve:
        async with aiohttp.ClientSession(serve.url) as session:
            assert await status_of(session.get("/healthz")) == 200
        assert await serve.end(signal.SIGTERM) == 0
    assert "[WORKER]" not in serve.said


async def test_a_request_that_was_accepted_is_finished_before_it_ends(
    telewarm_with: Opener, tmp_path: Path, sandbox: Sandbox
) -> None:
    sandbox.state.faults.add(Rule(action="hang", method="sendMessage", seconds=1.5))
    async with (
        serving(tmp_path, **telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)) as serve,
        aiohttp.ClientSession(serve.url, headers=BEARER) as session,
    ):
        assert await status_of(session.post(BOTS, json=BOT)) == 201
        send = asyncio.create_task(body_of(session.post(f"{BOTS}/shop/send", json={"chat_id": READER, "text": "so"})))
        while not sandbox.state.stats.total.calls["sendMessage"]:
            await clock.sleep(0.01)
        ended = asyncio.create_task(serve.end(signal.SIGTERM))
        assert (await send)["ok"] is True
        assert await ended == 0


@pytest.mark.heavy
async def test_neither_an_upload_nor_a_warm_up_that_stands_still_keeps_it_from_ending(
    telewarm_with: Opener, tmp_path: Path, sandbox: Sandbox
) -> None:
    sandbox.state.faults.add(Rule(action="hang", method="sendPhoto"))
    incoming = telewarm_with.data / "spool" / "incoming"
    async with serving(tmp_path, **telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)) as serve:
        async with aiohttp.ClientSession(serve.url, headers=BEARER) as session:
            assert await status_of(session.post(BOTS, json=BOT)) == 201
            assert await status_of(session.post(f"{BOTS}/shop/media", data=jpeg(1))) == 201
        port = int(serve.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST {BOTS}/shop/media HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {ADMIN}\r\n"
            "Content-Length: 1000\r\n\r\n"
        )
        writer.write(head.encode() + b"x")
        while not (received(incoming) and sandbox.state.stats.total.calls["sendPhoto"]):
            await clock.sleep(0.01)
        assert await serve.end(signal.SIGTERM) == 0
        writer.close()
    assert not received(incoming)


def received(incoming: Path) -> list[Path]:
    return [path for path in incoming.rglob("*") if path.is_file() and path.suffix != ".lock"]


async def test_the_first_start_prints_a_token_and_the_next_ones_where_it_is_kept(
    telewarm_with: Opener, tmp_path: Path
) -> None:
    everywhere, environ = "0.0.0.0", telewarm_with.environ()  # noqa: S104 - what is tested
    kept = telewarm_with.data / "api.token"
    async with serving(tmp_path, "--host", everywhere, "--no-worker", **environ) as first:
        found = re.search(rf"^API token: (\S+) \(kept in {re.escape(str(kept))}\)$", first.said, re.MULTILINE)
        assert found is not None, first.said
        assert found[1] == kept.read_text()
        bearer = {"Authorization": f"Bearer {found[1]}"}
        async with serving(tmp_path, "--no-worker", **environ) as second:
            for serve in (first, second):
                async with aiohttp.ClientSession(serve.url.replace(everywhere, "127.0.0.1")) as session:
                    assert await status_of(session.get(BOTS, headers=bearer)) == 200
                    assert await status_of(session.get(BOTS)) == 401
        assert await first.end(signal.SIGTERM) == 0
    assert first.said.count(found[1]) == 1
    assert f"API token: kept in {kept} (telewarm token show)\n" in second.said
    assert found[1] not in second.said


async def test_a_proxy_that_nobody_named_does_not_say_who_calls(telewarm_with: Opener, tmp_path: Path) -> None:
    wrong = {"Authorization": "Bearer a-guess-that-is-wrong"}
    environ = telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)
    async with serving(tmp_path, "--no-worker", **environ) as serve, aiohttp.ClientSession(serve.url) as session:
        for number in range(10):
            guess = {**wrong, "X-Forwarded-For": f"203.0.113.{number}", "X-Forwarded-Proto": "https"}
            assert await status_of(session.get(BOTS, headers=guess)) == 401
        assert await status_of(session.get(BOTS, headers={**wrong, "X-Forwarded-For": "203.0.113.77"})) == 429
        assert await status_of(session.get(BOTS, headers=BEARER)) == 200
    async with (
        serving(tmp_path, "--no-worker", **environ, FORWARDED_ALLOW_IPS="127.0.0.1") as serve,
        aiohttp.ClientSession(serve.url) as session,
    ):
        for _ in range(10):
            await status_of(session.get(BOTS, headers={**wrong, "X-Forwarded-For": "203.0.113.7"}))
        assert await status_of(session.get(BOTS, headers={**wrong, "X-Forwarded-For": "203.0.113.7"})) == 429
        assert await status_of(session.get(BOTS, headers={**wrong, "X-Forwarded-For": "203.0.113.8"})) == 401


async def test_with_a_token_it_serves_beyond_loopback(telewarm_with: Opener, tmp_path: Path) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - what is tested
    environ = telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)
    async with serving(tmp_path, "--host", everywhere, "--no-worker", **environ) as serve:
        async with aiohttp.ClientSession(serve.url.replace(everywhere, "127.0.0.1")) as session:
            assert await status_of(session.get(BOTS, headers=BEARER)) == 200
        assert await serve.end(signal.SIGTERM) == 0


async def test_a_port_in_use_is_told_before_anything_starts(telewarm_with: Opener, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = await refused(tmp_path, "--port", str(port), **telewarm_with.environ())
    assert said.startswith(f"BAD_REQUEST Port {port} is already in use. Stop that program")
    assert not telewarm_with.data.exists()


async def test_an_address_of_another_machine_is_told(telewarm_with: Opener, tmp_path: Path) -> None:
    environ = telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)
    assert "does not have the address" in await refused(tmp_path, "--host", "203.0.113.7", **environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEDIA_PREWARM_CONCURRENCY", "many"),
        ("TELEGRAM_API_ROOT", "telegram"),
        ("DATABASE_URL", "mysql://telewarm:hunter2@db/telewarm"),
    ],
)
async def test_a_wrong_setting_is_told_by_name_with_an_example(tmp_path: Path, name: str, value: str) -> None:
    said = await refused(tmp_path, **{name: value})
    assert said.startswith(f"BAD_SETTING {name} ")
    assert f"for example {name}=" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("name", ["ADMIN_API_TOKEN", "ENCRYPTION_KEY"])
async def test_a_wrong_secret_is_told_by_name_with_the_command_that_makes_one(tmp_path: Path, name: str) -> None:
    said = await refused(tmp_path, **{name: "hunter2"})
    assert said.startswith(f"BAD_SETTING {name} ")
    assert said.endswith("make one with `openssl rand -hex 32`")
    assert "hunter2" not in said


async def test_a_database_that_is_not_there_is_told_without_the_password(tmp_path: Path) -> None:
    url = "postgresql://telewarm:hunter2@127.0.0.1:1/telewarm"
    said = await refused(tmp_path, "--port", "0", DATABASE_URL=url, TELEWARM_DATA=str(tmp_path / "data"))
    assert "DATABASE_UNAVAILABLE" in said
    assert "hunter2" not in said
