"""Every error code is in the documentation, with the right status, and a request provokes each of them here.

Who adds a code adds it to `telewarm.api.catalogue`, makes docs/errors.md again, and provokes it in `PROVOKE` below.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree

import httpx
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

import telewarm
from telewarm import cli, errors
from telewarm.api import create_api, error_responses
from telewarm.api.middleware import concurrency_limit
from telewarm.api.signed_urls import PREVIEW_PATH, url_of
from telewarm.error_catalog import BY_CODE, ERROR_DOCS, ErrorCategory, markdown
from telewarm.media.preview_urls import PreviewVariant
from telewarm.models import MediaId
from telewarm.sandbox.faults import Rule
from tests.api.conftest import ADMIN, BEARER, BOT, MEDIA, SEND, Api, client_of
from tests.api.governing import TOKENS
from tests.api.test_errors import tree
from tests.fetch.web import answer as net_answer
from tests.fetch.web import web
from tests.fixtures.app import READER, Opener
from tests.fixtures.decoders import broken_open
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import token
from tests.telegram import servers

Pair = tuple[str, int]
SOURCE = Path(telewarm.__file__).parent
BOTS = "/api/admin/bots"
GROUP, FURTHER, FURTHEST = -4001, -1001000004002, -1001000004003


def test_the_page_of_errors_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "errors.md"
    assert page.read_text(encoding="utf-8") == markdown(), "run: telewarm errors --markdown > docs/errors.md"


@pytest.mark.slow
def test_the_command_shows_one_or_all_and_names_what_it_does_not_know() -> None:
    runner = CliRunner()
    assert all(known.code in runner.invoke(cli.app, ["errors"]).output for known in ERROR_DOCS)
    one = runner.invoke(cli.app, ["errors", "flood_wait"]).output
    assert "FLOOD_WAIT" in one
    assert "NOT_FOUND" not in one
    assert isinstance(runner.invoke(cli.app, ["errors", "NO_SUCH"]).exception, errors.UsageError)


def written() -> Iterator[Pair]:
    """What the source answers with by itself: HttpError(status, "CODE", …) and error_response(status, "CODE", …)."""
    for path in SOURCE.rglob("*.py"):
        if SOURCE / "sandbox" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"HttpError", "error_response"}:
                status, code = node.args[0], node.args[1]
                if isinstance(code, ast.Attribute):  # another error's own
                    continue
                if isinstance(code, ast.Name) and path.name == "error_responses.py":  # from its table of codes
                    continue
                assert isinstance(code, ast.Constant), f"{path.name}:{node.lineno}: write the code as a text"
                assert isinstance(status, ast.Constant), f"{path.name}:{node.lineno}: write the status as a number"
                yield str(code.value), int(str(status.value))


def raised() -> Iterator[Pair]:
    """What the errors of the tree become."""
    for kind in tree(errors.TelewarmError):
        if kind.__module__ == errors.__name__ and BY_CODE[kind.code].where is not ErrorCategory.COMMANDS:
            yield (
                kind.code,
                next((status for base, status in error_responses.STATUS_BY_ERROR if issubclass(kind, base)), 500),
            )


def test_every_code_that_the_source_has_is_known_with_its_status_and_no_other() -> None:
    assert {kind.code for kind in tree(errors.TelewarmError)} <= BY_CODE.keys()
    tables = {(code, status) for table in (error_responses.CODE_BY_STATUS,) for status, code in table.items()}
    assert len(BY_CODE) == len(ERROR_DOCS)
    assert {
        *written(),
        *raised(),
        *tables,
        (concurrency_limit.OVERLOADED_CODE, concurrency_limit.OVERLOADED_STATUS),
    } == documented()


def documented() -> set[Pair]:
    return {(known.code, status) for known in ERROR_DOCS for status in known.statuses}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """An API with one photo, which is cold, and what is behind it."""

    api: Api
    opener: Opener
    app: FastAPI
    photo: int

    @property
    def client(self) -> httpx.AsyncClient:
        return self.api.client

    def fails(
        self, method: str, code: int, description: str, *, count: int | None = 1, retry_after: int | None = None
    ) -> None:
        """What Telegram says to the next calls, or to all."""
        rule = Rule(
            action="error", method=method, code=code, description=description, count=count, retry_after=retry_after
        )
        self.opener.sandbox.state.faults.add(rule)

    async def text(self, chat_id: int = READER, **more: object) -> httpx.Response:
        return await self.client.post(SEND, json={"chat_id": chat_id, "text": "so", **more})

    async def media(self, **more: object) -> httpx.Response:
        return await self.client.post(SEND, json={"chat_id": READER, "media": [self.photo], **more})

    def blobs(self) -> list[Path]:
        """In the store, after all of the disk cache was deleted."""
        settings = self.api.telewarm.settings
        for path in (settings.telewarm_data / "spool" / "blobs").iterdir():
            path.unlink()
        return [path for path in (settings.store_folder / "media").rglob("*") if path.is_file()]


Provoke = Callable[[Stage], Awaitable[httpx.Response]]


async def unauthorized(stage: Stage) -> httpx.Response:
    async with client_of(stage.app) as stranger:
        return await stranger.get(MEDIA)


async def forbidden(stage: Stage) -> httpx.Response:
    made = await stage.client.post(TOKENS, json={"name": "reader", "role": "read"})
    async with client_of(stage.app, Authorization=f"Bearer {made.json()['token']}") as reader:
        return await reader.post(SEND, json={"chat_id": READER, "text": "so"})


async def too_many_attempts(stage: Stage) -> httpx.Response:
    transport = httpx.ASGITransport(stage.app, client=("203.0.113.9", 4711))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://here", headers={"Authorization": "Bearer x"}
    ) as it:
        for _ in range(10):
            await it.get(MEDIA)
        return await it.get(MEDIA)


async def too_slow(stage: Stage) -> httpx.Response:
    async def standing_still() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with client_of(create_api(replace(stage.app.state.services, body_stall_seconds=0.01)), **BEARER) as client:
        return await client.post(MEDIA, content=standing_still())


async def cut_off(stage: Stage) -> httpx.Response:
    async def gone() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def without_body(scope: object, _receive: object, send: object) -> None:
        await stage.app(scope, gone, send)  # type: ignore[arg-type]

    transport = httpx.ASGITransport(without_body)
    async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=BEARER) as client:
        return await client.post(MEDIA, content=b"so")


async def too_many_listeners(stage: Stage) -> httpx.Response:
    async with client_of(create_api(replace(stage.app.state.services, max_event_streams=0)), **BEARER) as client:
        return await client.get("/api/admin/events")


async def stopping(stage: Stage) -> httpx.Response:
    app = stage.api.telewarm.api()
    app.state.streams.stop()
    async with client_of(app, **BEARER) as client:
        return await client.get("/api/admin/events")


async def internal(stage: Stage) -> httpx.Response:
    async def bug() -> None:
        raise RuntimeError("so")

    app = stage.api.telewarm.api()
    app.get("/bug")(bug)
    async with client_of(app, **BEARER) as client:
        return await client.get("/bug")


async def not_taken(stage: Stage) -> httpx.Response:
    path = f"/api/admin/broadcasts/{await draft(stage)}/recipients"
    return await stage.client.post(path, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})


async def draft(stage: Stage) -> int:
    made = await stage.client.post("/api/admin/broadcasts", json={"bot": "shop", "message": {"text": "so"}})
    return int(made.json()["broadcasts"][0]["id"])


async def in_error(stage: Stage) -> httpx.Response:
    pool = stage.api.telewarm.pool
    await pool.execute("UPDATE media SET state = 'error', last_error = 'so' WHERE id = $1", stage.photo)
    answer = await stage.media(on_cold="wait")
    await pool.execute("UPDATE media SET state = 'warming' WHERE id = $1", stage.photo)
    return answer


async def damaged(stage: Stage) -> httpx.Response:
    for blob in stage.blobs():
        blob.write_bytes(b"x" * blob.stat().st_size)
    return await stage.media()


async def missing(stage: Stage) -> httpx.Response:
    kept = {blob: blob.read_bytes() for blob in stage.blobs()}
    for blob in kept:
        blob.unlink()
    answer = await stage.media()
    for blob, data in kept.items():
        blob.write_bytes(data)
    return answer


async def flooded(stage: Stage) -> httpx.Response:
    stage.fails("sendMessage", 429, "Too Many Requests: retry after 30", retry_after=30)
    return await stage.text(READER + 1, patience_ms=0)


async def unreachable_chat(stage: Stage) -> httpx.Response:
    stage.fails("sendMessage", 403, "Forbidden: bot was blocked by the user")
    return await stage.text()


async def migrated_again(stage: Stage) -> httpx.Response:
    chats = stage.opener.sandbox.state.chats
    chats.declare(GROUP, migrated_to=FURTHER)
    chats.declare(FURTHER, migrated_to=FURTHEST)
    return await stage.text(GROUP)


async def token_refused(stage: Stage) -> httpx.Response:
    stage.fails("getMe", 401, "Unauthorized")
    return await stage.client.post(BOTS, json={**BOT, "slug": "news", "token": token(1)})


async def dead_whatever(stage: Stage) -> httpx.Response:
    stage.fails("sendPhoto", 400, "Bad Request: wrong file identifier/HTTP URL specified", count=2)
    return await stage.media()


async def message_gone(stage: Stage) -> httpx.Response:
    stage.fails("sendMessage", 400, "Bad Request: message to copy not found")
    return await stage.text()


async def bad_message(stage: Stage) -> httpx.Response:
    return await stage.text(parse_mode="MarkdownV2", text="*so")


async def fault(stage: Stage) -> httpx.Response:
    stage.fails("sendMessage", 500, "Internal Server Error")
    return await stage.text()


async def no_answer(stage: Stage) -> httpx.Response:
    stage.opener.sandbox.state.faults.add(Rule(action="reset", method="sendMessage", count=None))
    answer = await stage.text(patience_ms=0)
    stage.opener.sandbox.state.faults.clear()
    return answer


async def no_file(stage: Stage) -> httpx.Response:
    """A Bot API server that takes a photo and answers with a message without one."""

    async def forgetful(connection: servers.Connection) -> None:
        while True:
            await connection.request()
            connection.answer(b'{"ok":true,"result":{"message_id":5,"chat":{"id":7,"type":"private"}}}')

    async with servers.serving(forgetful) as server:
        other = await stage.opener(worker=False, ADMIN_API_TOKEN=ADMIN, TELEGRAM_API_ROOT=server.root)
        async with client_of(other.api(), **BEARER) as client:
            return await client.post(SEND, json={"chat_id": READER, "media": [stage.photo]})


async def no_store(stage: Stage) -> httpx.Response:
    """The last one: the store is gone after it."""
    rmtree(stage.api.telewarm.settings.store_folder)
    stage.api.telewarm.settings.store_folder.write_text("no folder any more")
    return await stage.client.post(MEDIA, content=jpeg(7))


async def expired(stage: Stage) -> httpx.Response:
    signer = stage.api.telewarm.signer
    return await stage.client.get(url_of(signer.until(MediaId(stage.photo), PreviewVariant.FILE, 1_700_000_000)))


async def without_file(stage: Stage) -> httpx.Response:
    async with web() as net:
        net.answers["/x"] = net_answer(b"gone", status="410 Gone")
        environ = {"TELEWARM_FETCH_PRIVATE": "true", "TELEWARM_FETCH_PORTS": str(net.port)}
        other = await stage.opener(environ, worker=False, ADMIN_API_TOKEN=ADMIN)
        async with client_of(other.api(), **BEARER) as client:
            return await client.post(MEDIA, json={"url": net.url("/x", "127.0.0.2")})


async def broken_decoder(stage: Stage) -> httpx.Response:
    other = await stage.opener({}, worker=False, ADMIN_API_TOKEN=ADMIN)
    with broken_open(other.settings.telewarm_data, "raise TypeError('no such argument')"):
        async with client_of(other.api(), **BEARER) as client:
            return await client.post(f"{MEDIA}?kind=audio", content=b"ID3\x04" + bytes(2000))


async def overloaded(stage: Stage) -> httpx.Response:
    app = stage.api.telewarm.api()
    app.state.admission.limit = 0
    async with client_of(app, **BEARER) as client:
        return await client.get(MEDIA)


PROVOKE: dict[Pair, Provoke] = {
    ("UNAUTHORIZED", 401): unauthorized,
    ("FORBIDDEN", 403): forbidden,
    ("TOO_MANY_ATTEMPTS", 429): too_many_attempts,
    ("METHOD_NOT_ALLOWED", 405): lambda stage: stage.client.put(SEND),
    ("HEADERS_TOO_LARGE", 431): lambda stage: stage.client.get(MEDIA, headers={"X": "x" * 40_000}),
    ("TOO_LARGE", 413): lambda stage: stage.client.post(BOTS, content=b"x" * 2_000_000),
    ("TOO_SLOW", 408): too_slow,
    ("CUT_OFF", 400): cut_off,
    ("TOO_MANY_LISTENERS", 503): too_many_listeners,
    ("OVERLOADED", 503): overloaded,
    ("STOPPING", 503): stopping,
    ("INTERNAL", 500): internal,
    ("BAD_REQUEST", 400): lambda stage: stage.client.post(
        SEND, content=b"{", headers={"Content-Type": "application/json"}
    ),
    ("BAD_REQUEST", 415): not_taken,
    ("BAD_REQUEST", 422): lambda stage: stage.client.post(SEND, json={}),
    ("NOT_FOUND", 404): lambda stage: stage.client.get("/api/admin/media/4711"),
    ("CONFLICT", 409): lambda stage: stage.client.post(BOTS, json=BOT),
    ("UNREADABLE_MEDIA", 422): lambda stage: stage.client.post(f"{MEDIA}?kind=photo", content=jpeg(1)[:30]),
    ("DECODER_FAILED", 500): broken_decoder,
    ("MEDIA_RULE_BROKEN", 422): lambda stage: stage.client.post(f"{MEDIA}?kind=photo", content=b"no photo at all"),
    ("BAD_MEDIA", 422): in_error,
    ("MEDIA_NOT_READY", 409): lambda stage: stage.media(on_cold="fail"),
    ("BAD_SIGNATURE", 403): lambda stage: stage.client.get(f"{PREVIEW_PATH}/{stage.photo}?signature=x"),
    ("URL_EXPIRED", 410): expired,
    ("RANGE_NOT_SATISFIABLE", 416): lambda stage: stage.client.get(
        f"{PREVIEW_PATH}/{stage.photo}", headers={"Range": "bytes=999999-"}
    ),
    ("URL_REFUSED", 422): lambda stage: stage.client.post(MEDIA, json={"url": "http://127.0.0.1/"}),
    ("URL_UNREACHABLE", 502): lambda stage: stage.client.post(MEDIA, json={"url": "http://no-such-host.invalid/"}),
    ("URL_WITHOUT_FILE", 502): without_file,
    ("OBJECT_MISSING", 404): missing,
    ("FLOOD_WAIT", 429): flooded,
    ("CHAT_UNREACHABLE", 403): unreachable_chat,
    ("CHAT_MIGRATED", 409): migrated_again,
    ("TOKEN_REFUSED", 422): token_refused,
    ("DEAD_FILE_ID", 422): dead_whatever,
    ("MESSAGE_GONE", 404): message_gone,
    ("TELEGRAM_BAD_REQUEST", 422): bad_message,
    ("TELEGRAM_FAULT", 502): fault,
    ("TELEGRAM_UNREACHABLE", 502): no_answer,
    ("TELEGRAM_REFUSED", 502): no_file,
    ("OBJECT_CORRUPT", 503): damaged,
    ("STORE_UNAVAILABLE", 503): no_store,
}
WITHOUT_DATABASE: dict[Pair, str] = {("DATABASE_UNAVAILABLE", 503): MEDIA, ("NOT_READY", 503): "/readyz"}


def test_every_code_is_provoked() -> None:
    assert {*PROVOKE, *WITHOUT_DATABASE} == documented()


async def test_each_request_gets_the_code_it_asks_for(api: Api, telewarm_with: Opener) -> None:
    stage = Stage(api=api, opener=telewarm_with, app=api.telewarm.api(), photo=await api.add_photo())
    got = {}
    for expected, provoke in PROVOKE.items():
        answer = await provoke(stage)
        body = answer.json()
        got[expected] = (body.get("error"), answer.status_code)
        assert body.get("ok") is False
        assert body["message"]
        later = {"MEDIA_NOT_READY", "OVERLOADED", "TOO_MANY_LISTENERS", "STOPPING"}
        assert ("retry-after" in answer.headers) == (answer.status_code == 429 or expected[0] in later)
        assert ("request_id" in body) == (answer.status_code >= 500 and body["error"] != "OVERLOADED")
    assert got == {pair: pair for pair in PROVOKE}


@pytest.mark.parametrize(("expected", "path"), WITHOUT_DATABASE.items())
async def test_without_the_database_too(without_database: Api, expected: Pair, path: str) -> None:
    answer = await without_database.client.get(path)
    assert (answer.json()["error"], answer.status_code) == expected
