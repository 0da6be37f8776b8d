"""Secrets of every sort are planted wherever they can come in; then all that goes out is searched for them.

What a caller may say in its own words (texts of messages, names of files) is not searched for: it is what they keep.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from telewarm.models import MediaId, MediaState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.storage.config import S3Config
from tests.api.conftest import client_of
from tests.api.governing import AUDIT, TOKENS
from tests.fixtures.app import READER, WARMUP_CHAT, Opener, until_ready, until_state
from tests.fixtures.logs import Said
from tests.fixtures.media import jpeg
from tests.fixtures.objects import SECRET_ACCESS_KEY
from tests.fixtures.postgres import dumped

PASSWORD = "planted/pass:word%of-the-database"
ADMIN = "planted&admin'token\"0123456789"
KEY = "5ec2e7" * 10 + "abcd"
BOT_SECRET = "AAEplanted-secret-of-the-bot-0123456789"
BOT_TOKEN = f"1000000001:{BOT_SECRET}"
OTHER_SECRET = "AAEplanted-secret-of-another-bot-01234"
OTHER_TOKEN = f"1000000777:{OTHER_SECRET}"
STORE_SECRET = "planted+secret/of=the-bucket"
SIGNATURE = "0123456789abcdef" * 4
LEAKED_URL = f"https://bucket.example.org/media/1.jpg?X-Amz-Credential=x&X-Amz-Signature={SIGNATURE}"
API = "/api/admin"
CLIENT = ("httpx", "httpcore")


@pytest.fixture(autouse=True)
def _client_is_quiet() -> Iterator[None]:
    """The test's own client is not what is looked at."""
    for name in CLIENT:
        logging.getLogger(name).setLevel(logging.WARNING)
    yield
    for name in CLIENT:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def log_level() -> str:
    return "DEBUG"


@dataclass(kw_only=True, slots=True)
class Watched:
    """All that a client was told."""

    client: httpx.AsyncClient
    reported: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    async def ask(self, method: str, path: str, *, secret: bool = False, **more: object) -> httpx.Response:
        """`secret`: the answer is where a secret is shown once."""
        answer = await self.client.request(method, path, **more)  # type: ignore[arg-type]
        self.statuses.add(answer.status_code)
        if not secret:
            self.reported.append(f"{method} {answer.status_code}: {answer.headers} {answer.text}")
        return answer


def shapes(secret: str) -> Iterator[str]:
    """As text, in a URL, in JSON, in a repr: whatever way it may have been written."""
    yield from {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}


async def test_no_secret_comes_out_anywhere(
    telewarm_with: Opener, sandbox: Sandbox, rclone: S3Config, said: Said, tmp_path: Path
) -> None:
    bucket = {
        "S3_ENDPOINT": rclone.endpoint,
        "S3_BUCKET": rclone.bucket,
        "S3_ACCESS_KEY_ID": rclone.access_key_id,
        "TELEWARM_URL_WARMUP": "true",
        "DATABASE_URL": telewarm_with.database_url.replace("@", f":{quote(PASSWORD, safe='')}@", 1),
        "ADMIN_API_TOKEN": ADMIN,
        "ENCRYPTION_KEY": KEY,
        "TELEWARM_RETRY_LIMIT": "1",
    }
    telewarm = await telewarm_with(bucket, S3_SECRET_ACCESS_KEY=rclone.secret_access_key)
    storeless = await telewarm_with(
        bucket, worker=False, S3_SECRET_ACCESS_KEY=STORE_SECRET, TELEWARM_DATA=str(tmp_path / "other")
    )
    secrets = [ADMIN, PASSWORD, KEY, STORE_SECRET, SECRET_ACCESS_KEY]
    async with client_of(telewarm.api(), Authorization=f"Bearer {ADMIN}") as client:
        watched = Watched(client=client)
        secrets += await tokens(watched)
        await good(watched, telewarm)
        await bad(watched, telewarm, sandbox)
        await strangers(watched, [*secrets, BOT_TOKEN, OTHER_TOKEN, LEAKED_URL])
        for path in ("/metrics", "/health", "/openapi.json", "/docs", f"{AUDIT}?limit=1000", TOKENS):
            await watched.ask("GET", path)
    async with client_of(storeless.api(), Authorization=f"Bearer {ADMIN}") as client:
        without = Watched(client=client, reported=watched.reported, statuses=watched.statuses)
        await without.ask("POST", f"{API}/bots/shop/media", content=jpeg(99))
        await without.ask("GET", "/health")
    log = said()
    await telewarm.worker.stop()
    await telewarm.audit.flush()
    dump = await dumped(telewarm_with.database_url)

    assert watched.statuses >= {200, 201, 400, 401, 403, 404, 409, 422, 429, 502, 503}
    assert log.count("http_request") > 40
    assert "upload_method_failed" in log
    assert "COPY public.audit" in dump
    places = {"log": log, "dump": dump, "answers": "\n".join(watched.reported), "repr": repr((telewarm, storeless))}
    secrets += [BOT_SECRET, OTHER_SECRET, SIGNATURE]
    leaks = [
        (place, secret, text[max(0, text.find(shape) - 200) :][:300])
        for place, text in places.items()
        for secret in secrets
        for shape in shapes(secret)
        if shape in text
    ]
    assert not leaks, "\n".join(map(repr, leaks))


async def tokens(watched: Watched) -> list[str]:
    """Named tokens, each shown once."""
    made = await watched.ask("POST", TOKENS, secret=True, json={"name": "grafana", "role": "read"})
    again = await watched.ask("POST", f"{TOKENS}/grafana/rotate", secret=True)
    found = [str(answer.json()["token"]) for answer in (made, again)]
    for secret in found:
        await watched.ask("GET", f"{API}/bots/none/media", headers={"Authorization": f"Bearer {secret}"})
        await watched.ask("POST", TOKENS, headers={"Authorization": f"Bearer {secret}"}, json={})
    return found


async def good(watched: Watched, telewarm: Telewarm) -> None:
    bot = {"slug": "shop", "token": BOT_TOKEN, "warmup_chats": [WARMUP_CHAT]}
    assert (await watched.ask("POST", f"{API}/bots", json=bot)).status_code == 201
    assert (await watched.ask("POST", f"{API}/bots", json=bot)).status_code == 409
    assert (await watched.ask("PUT", f"{API}/bots/shop/token", json={"token": BOT_TOKEN})).status_code == 200
    added = await watched.ask("POST", f"{API}/bots/shop/media", content=jpeg(1))
    await until_ready(telewarm, MediaId(added.json()["media_id"]))
    await watched.ask("POST", f"{API}/bots/shop/send", json={"chat_id": READER, "media": [1], "text": "so"})


async def bad(watched: Watched, telewarm: Telewarm, sandbox: Sandbox) -> None:
    """Telegram, and whatever stands before it, quotes the URLs that it was asked for."""
    said = f"https://api.telegram.org/bot{BOT_TOKEN}/sendPhoto failed, fetching {LEAKED_URL} with {ADMIN}"
    for code in (400, 403, 500, 429):
        rule = Rule(action="error", method="sendMessage", code=code, description=said, retry_after=1)
        sandbox.state.faults.add(rule)
        text = {"chat_id": READER, "text": "so", "patience_ms": 0, "idempotency_key": f"key-{code}"}
        await watched.ask("POST", f"{API}/bots/shop/send", json=text)
    sandbox.state.faults.clear()
    sandbox.state.faults.add(Rule(action="html", method="getMe", code=502))
    sandbox.state.faults.add(Rule(action="error", method="getMe", code=401, description=said))
    for _ in range(3):
        bot = {"slug": "other", "token": OTHER_TOKEN, "warmup_chats": [WARMUP_CHAT]}
        await watched.ask("POST", f"{API}/bots", json=bot)
    for broken in ({"slug": OTHER_TOKEN, "token": 5}, {"token": [OTHER_TOKEN]}, {"slug": "x", "token": OTHER_SECRET}):
        await watched.ask("POST", f"{API}/bots", json={"warmup_chats": [1], **broken})
    sandbox.state.faults.add(Rule(action="error", method="sendPhoto", code=400, description=said, count=None))
    failing = await watched.ask("POST", f"{API}/bots/shop/media", content=jpeg(2))
    await until_state(telewarm, MediaState.ERROR, MediaId(failing.json()["media_id"]))
    await watched.ask("GET", f"{API}/media/{failing.json()['media_id']}")
    await watched.ask("GET", f"{API}/bots/shop/media")
    await broadcasts(watched)


async def broadcasts(watched: Watched) -> None:
    """A wrong file as the list: perhaps it is a .env."""
    made = await watched.ask("POST", f"{API}/broadcasts", json={"bot": "shop", "message": {"text": "so"}})
    path = f"{API}/broadcasts/{made.json()['broadcasts'][0]['id']}"
    lines = (
        f"ADMIN_API_TOKEN={ADMIN}\nBOT={OTHER_TOKEN}\nDATABASE_URL=postgresql://me:{quote(PASSWORD, safe='')}@db/x\n"
    )
    await watched.ask("POST", f"{path}/recipients", content=lines, headers={"Content-Type": "text/csv"})
    await watched.ask("GET", f"{path}/rejected.csv")


async def strangers(watched: Watched, secrets: list[str]) -> None:
    """Secrets where they do not belong: paths, queries, headers, bodies."""
    for number, secret in enumerate(secrets):
        quoted = quote(secret, safe="")
        for path in (f"/{quoted}", f"{API}/bots/{quoted}/media", f"{API}/media/{quoted}", f"{API}/tokens/{quoted}"):
            await watched.ask("GET", path)
            await watched.ask("DELETE", f"{path}?token={quoted}")
        headers = dict.fromkeys(("X-Request-Id", "User-Agent", "Cookie", "Referer", "X-Forwarded-For"), secret)
        await watched.ask("GET", f"{API}/bots/shop/media?kind={quoted}&state={quoted}", headers=headers)
        await watched.ask("POST", f"{API}/bots/shop/send", json={"chat_id": secret, "on_cold": secret})
        await watched.ask("POST", f"{API}/bots/shop/send", content=f'{{"x": {secret}')
        if number < 9:  # ten wrong ones close the door
            await watched.ask("GET", API, headers={"Authorization": f"Bearer {secret}x"})
