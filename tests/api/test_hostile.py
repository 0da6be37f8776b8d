"""A hostile caller, even one with the admin's token, gets a clear refusal and leaves no trace."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from structlog.testing import capture_logs

from tests.api.conftest import Api, files_in, serving
from tests.api.hostile import Case, cases

KEPT_ELSEWHERE = ("audit", "pgqueuer", "pgqueuer_log", "lease")  # who did what when, and the engine's own
TABLES = "SELECT relname FROM pg_stat_user_tables ORDER BY relname"


async def image(api: Api) -> dict[str, str]:
    """All that could hold a trace: every row of every table, every file, every call of Telegram."""
    seen = {}
    for [table] in await api.telewarm.pool.fetch(TABLES):
        if not table.startswith(KEPT_ELSEWHERE):
            rows = await api.telewarm.pool.fetch(f'SELECT t::text AS row FROM "{table}" AS t ORDER BY 1')  # noqa: S608
            seen[table] = hashlib.sha256("\n".join(row["row"] for row in rows).encode()).hexdigest()
    for path in files_in(api.telewarm.settings.telewarm_data):
        seen[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return seen


async def refused(api: Api, case: Case, photo: int) -> str | None:
    """None, or what was wrong with the answer."""
    path = case.path.replace("{photo}", str(photo))
    answer = await api.client.request(case.method, path, content=case.body, headers=dict(case.headers))
    if not 400 <= answer.status_code < 500:
        return f"{case.name}: {answer.status_code} {answer.text[:200]}"
    if case.method == "HEAD":
        return None
    body = answer.json()
    if body.get("ok") is not False or not body.get("error") or not body.get("message"):
        return f"{case.name}: the answer is {answer.text[:200]}"
    return None


@pytest.mark.timeout(60)
async def test_whatever_is_sent_is_refused_and_leaves_no_trace(api: Api) -> None:
    photo = await api.add_photo()
    hostile = cases()
    assert len(hostile) > 100
    assert len({case.name for case in hostile}) == len(hostile)
    before = await image(api)
    with capture_logs() as logged:
        wrong = [found for case in hostile if (found := await refused(api, case, photo))]
    assert not wrong, "\n".join(wrong)
    assert [
        one for one in logged if one["event"] in {"unhandled_exception", "request_failed", "request_failed_in_outage"}
    ] == []
    assert await image(api) == before


RAW: dict[str, bytes] = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length and chunks": b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x10\r\n\r\n",
    "a length without end": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + 40 * b"9" + b"\r\n\r\n",
    "a chunk that lies": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nx\r\n",
    "folded headers": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n",
    "a blank in a header's name": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a version of the future": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "another host's address": b"GET http://169.254.169.254/latest/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path that climbs": b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path of bytes": b"GET /\xff\xfe\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.timeout(60)
async def test_what_is_hardly_http_is_refused_and_the_server_lives_on(api: Api) -> None:
    before = await image(api)
    async with serving(api.telewarm.api()) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        for name, sent in RAW.items():
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(65536), 10)
            writer.close()
            assert answer == b"" or answer.split(b" ", 2)[1][:1] == b"4", (name, answer[:200])
            assert b"root:" not in answer, name
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(65536), 10)).startswith(b"HTTP/1.1 200")
        writer.close()
    assert await image(api) == before
