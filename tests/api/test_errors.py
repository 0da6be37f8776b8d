"""Whatever goes wrong, wherever: the same shape, the right status, and nothing of our insides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from telewarm import errors
from telewarm.api.error_responses import STATUS_BY_ERROR, status_of
from telewarm.errors import TelewarmError
from tests.api.conftest import BEARER, BOT, MEDIA, SEND, Api, client_of, refusal, serving
from tests.fixtures.app import READER
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import token


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/api/admin/bots/shop/", "/api/admin/bots/", "/healthz/", "/%00/\u2028"]
)
async def test_what_is_no_route_is_a_404(api: Api, path: str) -> None:
    refusal(await api.client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("DELETE", MEDIA, "GET, POST"),
        ("PUT", SEND, "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("GET", SEND, "POST"),
        ("OPTIONS", "/api/admin/media/7", "GET, PATCH, DELETE"),
        ("PUT", "/api/admin/tokens", "GET, POST"),
        ("POST", "/api/media/preview/7", "GET, HEAD"),
    ],
)
async def test_another_method_is_a_405_that_names_the_right_ones(api: Api, method: str, path: str, right: str) -> None:
    answer = await api.client.request(method, path)
    refusal(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == right


async def test_a_bug_is_a_500_without_a_detail_and_with_a_traceback_in_the_log(api: Api) -> None:
    app = api.telewarm.api()

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("the launch code is 1234")

    with capture_logs() as logged:
        async with client_of(app, **BEARER) as client:
            answer = await client.get("/bug")
    refusal(answer, 500, "INTERNAL")
    assert "1234" not in answer.text
    [line] = [line for line in logged if line["log_level"] == "error"]
    assert str(line["exc_info"]) == "the launch code is 1234"


async def test_a_bug_leaves_the_connection_and_the_server_alive(api: Api) -> None:
    app = api.telewarm.api()

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("so")

    async with serving(app) as url, httpx.AsyncClient(base_url=url, headers=BEARER) as client:
        refusal(await client.get("/bug"), 500, "INTERNAL")
        assert (await client.get("/healthz")).status_code == 200


def tree(root: type[TelewarmError]) -> Iterator[type[TelewarmError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", [kind for kind in tree(TelewarmError) if kind.__module__ == errors.__name__])
def test_every_error_has_a_status_of_its_own_choosing(kind: type[TelewarmError]) -> None:
    ours = {TelewarmError, errors.SettingsError, errors.BackupError}  # never in an answer
    first = next((base for base, _ in STATUS_BY_ERROR if issubclass(kind, base)), None)
    assert (first is None) == (kind in ours)


def test_no_status_is_hidden_behind_a_more_general_one() -> None:
    kinds = [kind for kind, _ in STATUS_BY_ERROR]
    for place, kind in enumerate(kinds):
        assert not [above for above in kinds[:place] if issubclass(kind, above)]
    assert status_of(TelewarmError("so")) == 500


async def test_without_the_database_every_route_that_needs_it_is_a_503(without_database: Api) -> None:
    client = without_database.client
    answers = [
        await client.post("/api/admin/bots", json={**BOT, "slug": "news", "token": token(1)}),
        await client.get("/api/admin/bots/news/media"),
        await client.get(MEDIA),
        await client.post(MEDIA, content=jpeg(1)),
        await client.get("/api/admin/media/1"),
        await client.post(SEND, json={"chat_id": READER, "media": [1]}),
    ]
    for answer in answers:
        assert "ask again" in refusal(answer, 503, "DATABASE_UNAVAILABLE")
    assert (await client.get("/healthz")).status_code == 200


async def test_without_the_database_the_metrics_say_so_and_the_rest(without_database: Api) -> None:
    answer = await without_database.client.get("/metrics")
    assert answer.status_code == 200
    assert "telewarm_database_up 0.0" in answer.text
    assert "telewarm_queue_due" not in answer.text
    assert "telewarm_warmup_seconds_count" in answer.text


async def test_without_the_store_an_upload_is_a_503_and_nothing_is_kept(api: Api) -> None:
    folder = api.telewarm.settings.store_folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    folder.write_text("no folder any more")
    refusal(await api.client.post(MEDIA, content=jpeg(1)), 503, "STORE_UNAVAILABLE")
    folder.unlink()
    assert await api.is_empty()


async def test_without_the_data_folder_an_upload_is_a_503(api: Api) -> None:
    for path in (api.telewarm.settings.telewarm_data / "spool" / "incoming").iterdir():
        if path.is_dir():
            path.rmdir()
    answer = await api.client.post(MEDIA, content=jpeg(1))
    assert "TELEWARM_DATA" in refusal(answer, 503, "STORE_UNAVAILABLE")


TEXTS = st.text(max_size=30) | st.integers().map(str) | st.sampled_from(["", "photo", "ready", "NaN", "1e5", "\x00"])
QUERIES = st.dictionaries(st.sampled_from(["kind", "state", "limit", "offset", "name", "x"]), TEXTS)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "accept", "content-length", "cookie", "x-forwarded-for"]),
    st.binary(max_size=40).map(lambda value: value.replace(b"\n", b"").replace(b"\r", b"")),
    max_size=3,
)
PATHS = st.sampled_from(["/api/admin/bots", MEDIA, SEND, "/api/admin/media/1", "/healthz"]) | st.text(max_size=20).map(
    lambda text: f"/api/admin/media/{quote(text)}"
)
PER_EXAMPLE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)


@PER_EXAMPLE
@given(st.sampled_from(["GET", "POST"]), PATHS, st.tuples(QUERIES, HEADERS), st.binary(max_size=60))
async def test_no_request_at_all_is_a_500(
    api: Api, method: str, path: str, extras: tuple[dict[str, str], dict[str, bytes]], body: bytes
) -> None:
    query, headers = extras
    sent = [(b"authorization", BEARER["Authorization"].encode()), *((k.encode(), v) for k, v in headers.items())]
    answer = await api.client.request(method, path, params=query, headers=sent, content=body)
    assert answer.status_code < 500, answer.text
    assert answer.json()["ok"] is (answer.status_code < 300)


AS_JSON = {"Content-Type": "application/json"}
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "chat_id",
    "media",
    "text",
    "caption",
    "on_cold",
    "slug",
    "token",
    "warmup_chats",
    "data_base64",
    "kind",
    "name",
]


@PER_EXAMPLE
@given(
    st.sampled_from([SEND, "/api/admin/bots", MEDIA]),
    st.dictionaries(st.sampled_from(FIELDS), JSONS, max_size=5) | JSONS,
)
async def test_no_json_at_all_is_a_500(api: Api, path: str, body: object) -> None:
    answer = await api.client.post(path, content=json.dumps(body).encode(), headers=AS_JSON)
    assert answer.status_code < 500, answer.text
    assert answer.json()["ok"] is (answer.status_code < 300)


async def test_the_http_api_names_routes(api: Api) -> None:
    await api.client.delete("/api/admin/bots/shop")
    for path in ("bots/shop", "bots/nobody", "media/4711", "broadcasts/4711", "bots/no%00body"):
        message = (await api.client.get(f"/api/admin/{path}")).json()["message"]
        assert "/api/admin/" in message
        assert "telewarm " not in message
    again = await api.client.post("/api/admin/bots", json=BOT)
    assert (again.status_code, "POST /api/admin/bots/shop/undelete" in again.json()["message"]) == (409, True)
