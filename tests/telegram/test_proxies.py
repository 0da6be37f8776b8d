"""Telegram through a proxy, and a Bot API server below a path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from telewarm.errors import TelegramUnreachable
from telewarm.models import MessageSet, Part
from telewarm.sandbox import Sandbox
from telewarm.telegram.client import BotApi
from telewarm.telegram.transport import Transport
from tests.fixtures.app import READER, Opener, add_bot, add_photos, until_ready
from tests.fixtures.proxies import Proxy, proxied
from tests.telegram.test_transport import CHAT, TOKEN, unused_root

LOGIN = "ann:p@ss-word-1"


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with proxied(Proxy(login=LOGIN)) as running:
        yield running


def with_login(proxy: Proxy) -> str:
    return proxy.url.replace("http://", "http://ann:p%40ss-word-1@")


async def test_warm_ups_and_sends_go_through_the_proxy_uploads_too(
    telewarm_with: Opener, sandbox: Sandbox, proxy: Proxy
) -> None:
    telewarm = await telewarm_with(TELEWARM_PROXY=with_login(proxy))
    session = await add_bot(telewarm)

    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    await telewarm.sender.send(session, READER, MessageSet(media=(Part(media_id=item.id),)))

    assert sandbox.state.stats.total.uploads == 1
    assert {line.split(" ")[1].rpartition("/")[2] for line in proxy.asked} >= {"getMe", "sendPhoto"}
    assert all(line.split(" ")[1].startswith(sandbox.url) for line in proxy.asked)


async def test_the_proxy_of_the_machine_is_used_but_not_for_excepted_hosts(
    telewarm_with: Opener, sandbox: Sandbox, proxy: Proxy
) -> None:
    host = urlsplit(sandbox.url).hostname
    direct = await telewarm_with(worker=False, HTTP_PROXY=with_login(proxy), NO_PROXY=f"localhost,{host}")
    session = await add_bot(direct)
    assert proxy.asked == []

    through = await telewarm_with(worker=False, HTTP_PROXY=with_login(proxy))
    await through.sender.send(await through.bots.by_slug(session.bot.slug), READER, MessageSet(text="Hello"))
    assert [line.split(" ")[0] for line in proxy.asked] == ["POST"]


@pytest.mark.parametrize(
    ("root", "words"),
    [("http://bots.example:8081", "HTTP status 407; check its user"), ("https://bots.example", "HTTP status 407")],
)
async def test_a_proxy_that_wants_another_login_is_named(proxy: Proxy, root: str, words: str) -> None:
    async with Transport.open(proxy=proxy.url) as transport:
        with pytest.raises(TelegramUnreachable, match=words) as caught:
            await BotApi(transport, TOKEN, root=root).send_message(CHAT, "hello")

    assert not caught.value.effect_possible
    assert TOKEN not in str(caught.value)


async def test_https_goes_through_a_tunnel_and_a_proxy_that_refuses_it_is_named() -> None:
    async with proxied(Proxy(refuses=True)) as proxy, Transport.open(proxy=proxy.url) as transport:
        with pytest.raises(TelegramUnreachable, match="the proxy refused with HTTP status 403") as caught:
            await BotApi(transport, TOKEN, root="https://api.telegram.org").send_message(CHAT, "hello")

    assert proxy.asked == ["CONNECT api.telegram.org:443 HTTP/1.1"]
    assert not caught.value.effect_possible


async def test_a_proxy_that_is_not_there_is_named_without_its_password() -> None:
    away = unused_root().replace("http://", f"http://ann:{LOGIN[-9:]}@")
    async with Transport.open(proxy=away) as transport:
        with pytest.raises(TelegramUnreachable, match=r"no connection to the proxy 127\.0\.0\.1:") as caught:
            await BotApi(transport, TOKEN, root="http://bots.example").send_message(CHAT, "hello")

    assert "TELEWARM_PROXY" in caught.value.message
    assert LOGIN[-9:] not in caught.value.message


async def test_a_bot_api_server_may_be_below_a_path(telewarm_with: Opener, sandbox: Sandbox) -> None:
    async with proxied(Proxy(prefix="/telegram-bot-api", target=sandbox.url)) as proxy:
        telewarm = await telewarm_with(TELEGRAM_API_ROOT=f"{proxy.url}/")
        session = await add_bot(telewarm)

        [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
        await telewarm.sender.send(session, READER, MessageSet(media=(Part(media_id=item.id),)))

        assert sandbox.state.stats.total.uploads == 1
        assert all("/telegram-bot-api/bot" in line for line in proxy.asked)
