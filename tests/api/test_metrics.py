"""GET /metrics: for Prometheus, with the admin token."""

from __future__ import annotations

import pytest

from telewarm.models import MediaId, MediaState
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.api.conftest import SEND, Api, client_of, refusal
from tests.fixtures.app import NO_SWEEP, READER, Opener, add_bot, add_photos, until_ready, until_state
from tests.fixtures.media import jpeg
from tests.test_metrics import check_labels, grown, read

ODD = 'Bad Request: {"odd"}\n\\ text " of /etc/passwd \u202e number '


async def test_it_is_prometheus_text_and_tells_the_queue_by_bot(api: Api) -> None:
    await api.add_photo(1)
    await api.add_photo(2)

    answer = await api.client.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'telewarm_queue_due{bot="shop"} 2.0' in answer.text
    assert 'telewarm_queue_head_age_seconds{bot="shop"}' in answer.text
    assert "telewarm_database_up 1.0" in answer.text


async def test_it_is_closed_to_whoever_has_no_token(api: Api) -> None:
    async with client_of(api.telewarm.api()) as stranger:
        refusal(await stranger.get("/metrics"), 401, "UNAUTHORIZED")


async def test_a_warm_up_and_the_sends_after_it_show(warming_api: Api) -> None:
    before = read()
    media_id = await warming_api.add_photo()
    await until_ready(warming_api.telewarm, MediaId(media_id))
    for _ in range(2):
        sent = await warming_api.client.post(SEND, json={"chat_id": READER, "media": [media_id]})
        assert sent.status_code == 200, sent.text

    assert grown(before, "warmups_total", outcome="ok", method="upload", kind="photo") == 1
    assert grown(before, "upload_methods_total", method="upload") == 1
    assert grown(before, "uploaded_bytes_total") == len(jpeg(0))
    assert grown(before, "disk_cache_reads_total", result="hit") == 1
    assert grown(before, "file_id_reads_total", result="miss") == 1
    assert grown(before, "file_id_reads_total", result="hit") == 1
    for name in ("queue_wait", "download", "send", "warmup"):
        assert grown(before, f"{name}_seconds_count") == 1


async def test_errors_with_odd_texts_make_no_new_labels(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    before = read()
    for number in range(5):
        sandbox.state.faults.add(Rule(action="error", code=400, description=f"{ODD}{number}", method="sendPhoto"))

    await until_state(telewarm, MediaState.ERROR, *await add_photos(telewarm, session, 5))

    assert grown(before, "warmup_errors_total", code="TELEGRAM_BAD_REQUEST") == 5
    assert not [labels for _, labels in read() if any("odd" in text for _, text in labels)]
    check_labels()


async def test_a_429_shows_with_its_seconds(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    before = read()
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=1, method="sendPhoto"))

    await until_ready(telewarm, *await add_photos(telewarm, session, 1))

    scopes = ("bot", "chat", "size")
    assert sum(grown(before, "flood_waits_total", scope=scope) for scope in scopes) == 1
    assert sum(grown(before, "flood_wait_seconds_total", scope=scope) for scope in scopes) == pytest.approx(1)


async def test_bots_by_the_hundred_are_shown_as_one(api: Api) -> None:
    await api.telewarm.pool.execute(
        "INSERT INTO bot (slug, telegram_id, token_sealed, warmup_chats)"
        " SELECT 'bot-' || n, n, '', '{-1}' FROM generate_series(1, 130) AS n"
    )
    await api.add_photo()
    await api.telewarm.pool.execute(
        "INSERT INTO media (bot_id, sha256, kind, state, queued_at)"
        " SELECT bot.id, blob.sha256, 'photo', 'warming', now() FROM bot, blob WHERE bot.slug LIKE 'bot-%'"
    )

    text = (await api.client.get("/metrics")).text

    assert text.count("telewarm_queue_due{") == 101
    assert 'telewarm_queue_due{bot="_other"} 31.0' in text
