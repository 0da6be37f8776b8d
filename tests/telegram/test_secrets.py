"""A token is in the URL of every call: it must be nowhere else."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from telewarm.errors import TelewarmError, UsageError
from telewarm.models import ChatId, Kind
from telewarm.telegram.client import BotApi
from telewarm.telegram.files import FileUpload
from telewarm.telegram.transport import Request, Response, Transport
from tests.telegram import servers
from tests.telegram.servers import Handler, serving

SECRET = "AAE-a_token_that_nobody_may_see"
TOKEN = f"123456789:{SECRET}"


def texts(error: BaseException) -> Iterator[str]:
    """All that a log, a crash reporter or a curious person could print of an error and whatever hangs on it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield from (str(one), repr(one), repr(one.args), repr(vars(one)))
        yield from traceback.format_exception(one)
        waiting += [one.__cause__, one.__context__]


async def nothing(connection: servers.Connection) -> None:
    connection.reset()


FAILURES: list[tuple[str, Handler]] = [
    ("reset at once", nothing),
    ("closed after the request", servers.quitting),
    ("no answer", servers.silent),
    ("body not taken", servers.stuck),
    ("reset within the body", servers.resetting),
    ("not HTTP", servers.babbling),
    ("half an answer", servers.breaking_off),
    ("a page with the URL", servers.quoting),
    ("JSON with the URL", servers.quoting_json),
    ("a redirect", servers.redirecting("http://127.0.0.1:1")),
]


def from_file(folder: Path) -> FileUpload:
    (folder / "file").write_bytes(b"x" * 5_000_000)
    return FileUpload(path=folder / "file", filename="a.jpg", mime="image/jpeg", bytes=5_000_000)


def from_missing_file(folder: Path) -> FileUpload:
    return FileUpload(path=folder / "gone", filename="a.jpg", mime="image/jpeg", bytes=5_000_000)


def from_breaking_stream(_: Path) -> FileUpload:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ConnectionResetError("the store's connection broke")

    return FileUpload.stream(breaking, filename="a.jpg", mime="image/jpeg", bytes=5_000_000)


@pytest.mark.parametrize("make", [from_file, from_missing_file, from_breaking_stream])
@pytest.mark.parametrize(("_name", "handler"), FAILURES, ids=[name for name, _ in FAILURES])
async def test_no_failure_shows_the_token(
    _name: str, handler: Handler, make: Callable[[Path], FileUpload], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Transport.open() as transport, serving(handler) as server:
        bot = BotApi(transport, TOKEN, root=server.root)
        with pytest.raises((TelewarmError, ConnectionResetError)) as caught:
            await bot.send_media(Kind.PHOTO, ChatId(7), make(tmp_path), timeout=0.3)
    assert not [text for text in texts(caught.value) if SECRET in text]
    assert SECRET not in caplog.text


async def test_no_failure_to_connect_shows_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Transport.open() as transport:
        with pytest.raises(TelewarmError) as caught:
            await BotApi(transport, TOKEN, root="http://127.0.0.1:1").get_me()
    assert not [text for text in texts(caught.value) if SECRET in text]
    assert SECRET not in caplog.text


async def never(_: Request) -> Response:
    raise AssertionError("no call was expected")


@pytest.mark.parametrize(
    "token", [SECRET, f"x{TOKEN}", f"{TOKEN}/../x", f"{TOKEN}\n", f"0:{SECRET}", f"1:{SECRET}?", ""]
)
def test_what_cannot_be_a_token_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(UsageError, match="BotFather") as caught:
        BotApi(never, token)
    assert not [text for text in texts(caught.value) if SECRET in text]


@pytest.mark.parametrize("root", ["api.telegram.org", "ftp://x", "http://", ""])
def test_what_cannot_be_a_server_is_refused(root: str) -> None:
    with pytest.raises(UsageError, match="must be a URL"):
        BotApi(never, TOKEN, root=root)


def test_a_bot_and_its_requests_hide_the_token() -> None:
    request = Request(method="getMe", url=f"http://x/bot{TOKEN}/getMe", body=b"private words", timeout=1)
    assert repr(BotApi(never, TOKEN)) == "BotApi(123456789)"
    assert SECRET not in repr(request)
    assert "private" not in repr(request)
