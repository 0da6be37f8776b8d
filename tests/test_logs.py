"""Logs: whatever brings a secret in, the finished line does not have it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from urllib.parse import quote

import asyncpg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from telewarm import logs
from tests.fixtures.logs import Said

SECRET = "AAE-a_token_that_nobody_may_see_1234"
TOKEN = f"123456789:{SECRET}"


def fail_with(token: str) -> None:
    local = {"token": token}
    raise ValueError(f"GET https://api.example.org/bot{local['token']}/getMe failed")


def log_a_failure() -> None:
    try:
        fail_with(TOKEN)
    except ValueError:
        structlog.get_logger("telewarm.test").exception("test_failed")


def foreign_failure() -> None:
    try:
        fail_with(TOKEN)
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")


def with_context() -> None:
    with structlog.contextvars.bound_contextvars(request=f"/bot{TOKEN}/getMe"):
        structlog.get_logger().info("got")


PLANTS: dict[str, Callable[[], object]] = {
    "an event": lambda: structlog.get_logger().info(f"got {TOKEN}"),
    "a value": lambda: structlog.get_logger().info("got", token=TOKEN),
    "a value deep inside": lambda: structlog.get_logger().info("got", seen=[{"a": (TOKEN, {TOKEN: 1})}]),
    "bytes": lambda: structlog.get_logger().info("got", body=TOKEN.encode()),
    "an exception as a value": lambda: structlog.get_logger().info("got", error=ValueError(TOKEN)),
    "a URL": lambda: structlog.get_logger().info("got", url=f"https://api.example.org/bot{TOKEN}/getMe"),
    "an escaped URL": lambda: structlog.get_logger().info("got", url=f"/bot{TOKEN.replace(':', '%3a')}/getMe"),
    "a positional argument": lambda: structlog.get_logger().info("got %s", TOKEN),
    "a traceback": log_a_failure,
    "uvicorn's message": lambda: logging.getLogger("uvicorn.error").warning("GET /bot%s", TOKEN),
    "aiohttp's message": lambda: logging.getLogger("aiohttp.client").error("Unclosed: %r", {"url": f"/bot{TOKEN}"}),
    "a foreign traceback": foreign_failure,
    "a context variable": with_context,
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS.keys())
def test_a_token_never_gets_through(plant: Callable[[], object], said: Said) -> None:
    plant()
    assert said()
    assert SECRET not in said()
    assert "123456789:<token>" in said()


def test_a_traceback_is_told_without_the_local_variables(said: Said) -> None:
    kept = "hunter2-is-in-a-local-variable"
    try:
        int(f"{len(kept)}x")
    except ValueError:
        structlog.get_logger().exception("test_failed")
    assert "Traceback" in said()
    assert kept not in said()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql://telewarm:hunter2@db:5432/telewarm", "hunter2"),
        ("redis://:hunter2@cache", "hunter2"),
        ("Authorization: Bearer hunter2hunter2", "hunter2"),
        ("{'authorization': 'bearer hunter2hunter2'}", "hunter2"),
    ],
)
def test_passwords_in_urls_and_bearer_tokens_are_masked(text: str, secret: str) -> None:
    assert secret not in logs.redact(text)


@given(st.from_regex(r"[1-9][0-9]{5,12}:[A-Za-z0-9_-]{30,46}", fullmatch=True), st.text(), st.text())
def test_a_token_is_masked_whatever_is_around_it(token: str, before: str, after: str) -> None:
    assert token.partition(":")[2] not in logs.redact(f"{before}{token}{after}")


@given(st.text(alphabet=st.characters(blacklist_characters=":%")))
def test_a_text_without_a_colon_stays_as_it_is(text: str) -> None:
    if "bearer" not in text.lower():
        assert logs.redact(text) == text


@pytest.mark.parametrize("form", ["json"], indirect=True)
def test_in_json_each_event_is_one_line_with_its_time_and_level(said: Said) -> None:
    structlog.get_logger().info("test_seen", media_id=7)
    log_a_failure()
    first, second = map(json.loads, said().splitlines())
    assert (first["event"], first["media_id"], first["level"]) == ("test_seen", 7, "info")
    assert first["timestamp"].endswith("Z")
    assert "ValueError" in second["exception"]


@pytest.mark.parametrize("form", ["json"], indirect=True)
def test_a_line_of_json_stays_one_when_something_in_it_is_masked(said: Said) -> None:
    structlog.get_logger().info("got", head="Bearer hunter2hunter2", url="https://a:hunter2@b/", path=f"/bot{TOKEN}")
    line = json.loads(said())
    assert (line["head"], line["url"]) == ("Bearer <token>", "https://a:<password>@b/")
    assert line["path"] == "/bot123456789:<token>"


def test_what_is_below_the_level_and_the_chatter_of_others_are_left_out(said: Said) -> None:
    structlog.get_logger().debug("test_fine")
    logging.getLogger("uvicorn.access").info("GET /healthz 200")
    logging.getLogger("pgqueuer.qm").info("dequeued")
    assert said() == ""


def test_the_engine_tells_of_a_lost_database_in_one_line_and_of_a_bug_with_its_traceback(said: Said) -> None:
    """A regression: a restart of the database filled the log with tracebacks of errors that repaired themselves."""
    engine = logging.getLogger("pgqueuer")
    for error in (ConnectionRefusedError("refused"), asyncpg.CannotConnectNowError("starting up"), ValueError("a bug")):
        try:
            raise error
        except (OSError, asyncpg.PostgresError, ValueError):
            engine.exception("Flush failed, requeuing %d items", 4)

    lost, starting, bug = said().split("Flush failed, requeuing 4 items")[1:]
    assert "(ConnectionRefusedError: refused)" in lost
    assert "(CannotConnectNowError: starting up)" in starting
    assert "Traceback" not in lost + starting
    assert "Traceback" in bug


def test_a_secret_of_the_process_is_masked_by_value_in_every_form_while_it_is_hidden() -> None:
    secret = 'pass"wörd/of the store'
    forms = [secret, json.dumps(secret), repr(secret), quote(secret, safe=""), f"so {secret}!"]
    with logs.mask_secrets(secret, "short", secret):
        with logs.mask_secrets(secret):
            assert logs.redact(secret) == "<secret>"
        reported = "".join(map(logs.redact, forms))
        assert "store" not in reported
        assert reported.count("<secret>") == len(forms)
        assert logs.redact("a short word") == "a short word"
    assert logs.redact(secret) == secret


def test_a_presigned_url_can_be_used_by_nobody_who_reads_the_log() -> None:
    url = "https://s3.example.org/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=5d672d79c15b13162d9279b0855cfba6"
    assert logs.redact(url).endswith("X-Amz-Signature=<signature>")
    url = "/api/media/preview/7?expires=1800000000&signature=nYeoagCuh4Ww9sMvUUzFzP2b2Bh33OoOugXYsVbz15g"
    assert logs.redact(url).endswith("&signature=<signature>")
    assert "5d672d79" not in logs.redact(quote(url, safe=""))
