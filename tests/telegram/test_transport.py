"""The wire: what is said of a call without an answer, and what a call leaves behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from telewarm.errors import ObjectMissing, StoreUnavailable, TelegramServerError, TelegramUnreachable
from telewarm.models import ChatId, FileId, Kind
from telewarm.telegram.client import BotApi
from telewarm.telegram.files import FileIdRef, FileUpload
from telewarm.telegram.transport import Transport
from tests.telegram import servers
from tests.telegram.servers import Handler, serving

TOKEN = "123456789:AAE-a_token_that_nobody_may_see"
CHAT = ChatId(7)
ID = FileIdRef(file_id=FileId("p"))
LARGE = 30_000_000  # bytes; more than sockets buffer


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport.open() as transport:
        yield transport


@pytest.fixture
def large(tmp_path: Path) -> FileUpload:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGE)
    return FileUpload(path=tmp_path / "large", filename="large.mp4", mime="video/mp4", bytes=LARGE)


async def failing(
    transport: Transport, handler: Handler, file: FileIdRef | FileUpload, *, timeout: float
) -> TelegramUnreachable:
    async with serving(handler) as server:
        with pytest.raises(TelegramUnreachable) as caught:
            await BotApi(transport, TOKEN, root=server.root).send_media(Kind.VIDEO, CHAT, file, timeout=timeout)
    return caught.value


def unused_root() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def test_where_nothing_listens_nothing_was_carried_out(transport: Transport) -> None:
    with pytest.raises(TelegramUnreachable, match="Connection refused") as caught:
        await BotApi(transport, TOKEN, root=unused_root()).send_message(CHAT, "hello")
    assert not caught.value.effect_possible
    assert (caught.value.method, caught.value.chat_id) == ("sendMessage", 7)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (servers.quitting, "closed the connection"),
        (servers.silent, "none within 0.2 s"),
        (servers.babbling, "not a whole HTTP answer"),
        (servers.breaking_off, "not a whole HTTP answer"),
    ],
)
async def test_a_request_that_has_left_may_have_been_carried_out(
    transport: Transport, handler: Handler, words: str
) -> None:
    error = await failing(transport, handler, ID, timeout=0.2)
    assert error.effect_possible
    assert words in str(error)


@pytest.mark.parametrize("handler", [servers.quitting, servers.silent])
async def test_an_upload_that_has_left_may_have_been_carried_out(
    transport: Transport, handler: Handler, large: FileUpload
) -> None:
    assert (await failing(transport, handler, large, timeout=3)).effect_possible


@pytest.mark.parametrize(("handler", "timeout"), [(servers.resetting, 10), (servers.stuck, 0.5)])
async def test_an_upload_cut_short_was_not_carried_out(
    transport: Transport, handler: Handler, large: FileUpload, timeout: float
) -> None:
    assert not (await failing(transport, handler, large, timeout=timeout)).effect_possible


async def test_a_call_that_found_no_free_connection_was_not_carried_out() -> None:
    begun = asyncio.Event()

    async def busy(connection: servers.Connection) -> None:
        begun.set()
        await servers.silent(connection)

    async with Transport.open(connections=1) as transport, serving(busy) as server:
        bot = BotApi(transport, TOKEN, root=server.root)
        first = asyncio.create_task(bot.send_media(Kind.PHOTO, CHAT, ID, timeout=1))
        await begun.wait()
        with pytest.raises(TelegramUnreachable) as second:
            await bot.send_media(Kind.PHOTO, CHAT, ID, timeout=0.2)
        with pytest.raises(TelegramUnreachable) as caught:
            await first
    assert caught.value.effect_possible
    assert not second.value.effect_possible


async def test_a_failing_source_is_told_as_it_is(transport: Transport, tmp_path: Path) -> None:
    gone = FileUpload(path=tmp_path / "gone", filename="x", mime="a/b", bytes=5)
    async with serving(servers.polite) as server:
        with pytest.raises(ObjectMissing):
            await BotApi(transport, TOKEN, root=server.root).send_media(Kind.PHOTO, CHAT, gone)


async def test_a_failing_stream_is_told_as_it_is_and_the_next_call_goes_through(transport: Transport) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise StoreUnavailable("the bucket is away")

    broken = FileUpload.stream(breaking, filename="x", mime="a/b", bytes=200_000)
    async with serving(servers.polite) as server:
        bot = BotApi(transport, TOKEN, root=server.root)
        with pytest.raises(StoreUnavailable, match="the bucket is away"):
            await bot.send_media(Kind.PHOTO, CHAT, broken)
        assert (await bot.send_media(Kind.PHOTO, CHAT, ID)).message_id == 5


async def test_an_early_refusal_of_an_upload_is_heard(transport: Transport, large: FileUpload) -> None:
    async def full(connection: servers.Connection) -> None:
        await connection.head()
        connection.answer(b"<html>full</html>", status="503 Service Unavailable", headers="Connection: close\r\n")
        await connection.reader.read(-1)

    async with serving(full) as server:
        with pytest.raises(TelegramServerError) as caught:
            await BotApi(transport, TOKEN, root=server.root).send_media(Kind.VIDEO, CHAT, large)
    assert caught.value.status == 503


async def test_a_redirect_is_not_followed_for_the_url_holds_the_token(transport: Transport) -> None:
    async with serving(servers.polite) as elsewhere, serving(servers.redirecting(elsewhere.root)) as server:
        with pytest.raises(TelegramServerError):
            await BotApi(transport, TOKEN, root=server.root).get_me()
        assert not elsewhere.connections


async def test_bots_share_kept_alive_connections(transport: Transport) -> None:
    async with serving(servers.polite) as server:
        for number in range(1, 6):
            await BotApi(transport, f"{number}:{'s' * 35}", root=server.root).send_message(CHAT, "hello")
        assert [len(connection.heads) for connection in server.connections] == [5]


async def test_calls_at_once_open_no_more_connections_than_allowed() -> None:
    async with Transport.open(connections=4) as transport, serving(servers.polite) as server:
        bot = BotApi(transport, TOKEN, root=server.root)
        await asyncio.gather(*(bot.send_message(CHAT, "hello") for _ in range(50)))
        assert len(server.connections) == 4


async def test_a_closed_transport_leaves_no_connection() -> None:
    async with serving(servers.polite) as server:
        async with Transport.open() as transport:
            await BotApi(transport, TOKEN, root=server.root).send_message(CHAT, "hello")
        assert await server.connections[0].reader.read() == b""


@pytest.mark.parametrize("handler", [servers.silent, servers.stuck])
async def test_a_cancelled_call_leaves_no_task_and_no_connection(
    transport: Transport, handler: Handler, large: FileUpload
) -> None:
    begun = asyncio.Event()

    async def noted(connection: servers.Connection) -> None:
        begun.set()
        await handler(connection)

    async with serving(noted) as server:
        before = asyncio.all_tasks()
        call = asyncio.create_task(BotApi(transport, TOKEN, root=server.root).send_media(Kind.VIDEO, CHAT, large))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        handlers = {task for task in asyncio.all_tasks() if "accept" in repr(task.get_coro())}
        assert asyncio.all_tasks() - handlers <= before


async def test_after_a_cancelled_call_the_next_one_gets_its_own_answer(transport: Transport) -> None:
    """A connection that still owes an answer must not be used again."""
    begun, resume = asyncio.Event(), asyncio.Event()

    async def late(connection: servers.Connection) -> None:
        await connection.request()
        if not begun.is_set():
            begun.set()
            await resume.wait()
            connection.answer(servers.OK.replace(b'"message_id":5', b'"message_id":4'))
        connection.answer()
        await connection.reader.read(-1)

    async with serving(late) as server:
        bot = BotApi(transport, TOKEN, root=server.root)
        call = asyncio.create_task(bot.send_message(CHAT, "first"))
        await begun.wait()
        call.cancel()
        resume.set()
        assert (await bot.send_message(CHAT, "second")).message_id == 5
        assert call.cancelled()
