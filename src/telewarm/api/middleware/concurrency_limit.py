"""The concurrency limit around all routes: a slot for each request, or 503 before it is looked at."""

from __future__ import annotations

import asyncio
from functools import cache

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from telewarm import clock
from telewarm.api.concurrency_limiter import (
    AdaptiveConcurrencyLimiter,
    RequestClass,
    RequestSlot,
    class_of,
    retry_after_seconds,
)
from telewarm.api.error_responses import error_response
from telewarm.api.middleware.access_log import REQUEST_ID_HEADER
from telewarm.idle_tracking import use_idle_tracker

OVERLOADED_CODE, OVERLOADED_STATUS = "OVERLOADED", 503
STOPPING_RETRY_AFTER_SECONDS = 1  # seconds after which another process, or this one once it is back, may be asked


class ConcurrencyLimitMiddleware:
    """Refuses requests above the limit."""

    def __init__(self, app: ASGIApp, *, admission: AdaptiveConcurrencyLimiter) -> None:
        self._app = app
        self._limiter = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Acquire a slot and pass the request on, or refuse it."""
        work = class_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if work is None:
            await self._app(scope, receive, send)
        elif (slot := self._limiter.acquire(work)) is None:
            await _reject(work, scope, send)
        else:
            await self._serve(slot, scope, receive, send)

    async def _serve(self, slot: RequestSlot, scope: Scope, receive: Receive, send: Send) -> None:
        slot.task = asyncio.current_task()
        try:
            with use_idle_tracker(slot):
                await self._app(scope, _track_receive(receive, slot), _track_send(send, slot))
        except asyncio.CancelledError:
            if not slot.cancelled_by_shutdown:
                raise
            if not slot.response_started:  # else the broken connection says that the rest does not come
                await stopping_response(str(scope.get("state", {}).get("request_id", "")))(scope, receive, send)
        finally:
            slot.finish()


async def _reject(request_class: RequestClass, scope: Scope, send: Send) -> None:
    """Answer 503 without reading the body, at a small part of the cost of the cheapest route.

    The client may send more on the connection, unless it waits for leave to send its body.
    """
    start, body = _rejection(request_class, retry_after_seconds())
    if any(name == b"expect" for name, _ in scope["headers"]):
        start = {**start, "headers": [*start["headers"], (b"connection", b"close")]}
    await send(start)
    await send(body)


@cache
def _rejection(request_class: RequestClass, retry_seconds: int) -> tuple[Message, Message]:
    """The messages of a rejection. It has no request id: the log has but the number of rejected requests."""
    text = (
        f"this process has as many requests of this kind ({request_class}) as it can answer in time, and nothing was "
        f"done: ask again in {retry_seconds} s, or ask another process; when it lasts, run more of them"
    )
    response = JSONResponse(
        {"ok": False, "error": OVERLOADED_CODE, "message": text},
        OVERLOADED_STATUS,
        {"Retry-After": str(retry_seconds)},
    )
    start = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    return start, {"type": "http.response.body", "body": response.body}


def stopping_response(request_id: str) -> ASGIApp:
    """Return the response to a request that the shutdown cancelled."""
    with bound_contextvars(request_id=request_id):
        return error_response(
            503,
            "STOPPING",
            "the server stops, and this was not done in time: some of it may have been. Ask again, another process or"
            " this one once it is back; a send with an Idempotency-Key never goes twice",
            headers={"Retry-After": str(STOPPING_RETRY_AFTER_SECONDS), REQUEST_ID_HEADER.decode(): request_id},
        )


def _track_receive(receive: Receive, slot: RequestSlot) -> Receive:
    """Who waits long for a client has no place: see `Admission`."""

    async def received() -> Message:
        slot.receiving_since = clock.monotonic()
        all_of_it = False
        try:
            message = await receive()
            all_of_it = not message.get("more_body", False)
        finally:
            slot.on_received(complete=all_of_it)
        return message

    return received


def _track_send(send: Send, slot: RequestSlot) -> Send:
    """Once the answer is there, how fast it is taken is the client's matter."""

    async def sent(message: Message) -> None:
        slot.release()
        await send(message)

    return sent
