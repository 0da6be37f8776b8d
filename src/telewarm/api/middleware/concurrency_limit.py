"""The concurrency limit around all routes: a slot for each request, or 503 before it is looked at."""

from __future__ import annotations

import asyncio

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from telewarm import clock
from telewarm.api.concurrency_limiter import (
    AdaptiveConcurrencyLimiter,
    RequestClass,
    RequestSlot,
    class_of,
    retry_after,
)
from telewarm.api.error_responses import error_response
from telewarm.api.middleware.access_log import HEADER
from telewarm.api.sse import ABORT
from telewarm.idle_tracking import use_idle_tracker

CODE, STATUS = "OVERLOADED", 503
PLACE = "telewarm.place"  # an extension of the scope
AT_ONCE = 1  # seconds after which another process, or this one once it is back, may be asked


class ConcurrencyLimitMiddleware:
    def __init__(self, app: ASGIApp, *, admission: AdaptiveConcurrencyLimiter) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = class_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if work is None:
            await self._app(scope, receive, send)
        elif (place := _slot_from_scope(scope) or self._admission.enter(work)) is None:
            await overloaded(work, retry_after())(scope, receive, send)
        else:
            await self._serve(place, scope, receive, send)

    async def _serve(self, place: RequestSlot, scope: Scope, receive: Receive, send: Send) -> None:
        place.task = asyncio.current_task()
        try:
            with use_idle_tracker(place):
                await self._app(scope, _received(receive, place), _sent(send, place))
        except asyncio.CancelledError:
            if not place.ended:
                raise
            if place.answered:
                await _broken_off(scope, receive)
            else:
                await stopping(str(scope.get("state", {}).get("request_id", "")))(scope, receive, send)
        finally:
            place.gone()


def _slot_from_scope(scope: Scope) -> RequestSlot | None:
    """By the door."""
    place: RequestSlot | None = scope.get("extensions", {}).get(PLACE, {}).get("place")
    return place


async def _broken_off(scope: Scope, receive: Receive) -> None:
    """Half of an answer is out: the broken connection says that the rest does not come."""
    if (extension := scope.get("extensions", {}).get(ABORT)) is not None:
        extension["abort"]()
        while (await receive())["type"] != "http.disconnect":
            pass


def overloaded(work: RequestClass, again: int) -> JSONResponse:
    """`again`: seconds. It has no request id: the log tells but the number of those that were refused."""
    words = (
        f"this process has as many requests of this kind ({work}) as it can answer in time, and nothing was done: ask"
        f" again in {again} s, or ask another process; when it lasts, run more of them"
    )
    return JSONResponse({"ok": False, "error": CODE, "message": words}, STATUS, {"Retry-After": str(again)})


def stopping(request_id: str) -> ASGIApp:
    with bound_contextvars(request_id=request_id):
        return error_response(
            503,
            "STOPPING",
            "the server stops, and this was not done in time: some of it may have been. Ask again, another process or"
            " this one once it is back; a send with an Idempotency-Key never goes twice",
            headers={"Retry-After": str(AT_ONCE), HEADER.decode(): request_id},
        )


def _received(receive: Receive, place: RequestSlot) -> Receive:
    """Who waits long for a client has no place: see `Admission`."""

    async def received() -> Message:
        place.receives_since = clock.monotonic()
        all_of_it = False
        try:
            message = await receive()
            all_of_it = not message.get("more_body", False)
        finally:
            place.received(all_of_it=all_of_it)
        return message

    return received


def _sent(send: Send, place: RequestSlot) -> Send:
    """Once the answer is there, how fast it is taken is the client's matter."""

    async def sent(message: Message) -> None:
        place.leave()
        await send(message)

    return sent
