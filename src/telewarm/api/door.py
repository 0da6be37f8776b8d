"""HTTP protocol that sheds load: an excess request is rejected before a task or a route sees it."""

from __future__ import annotations

from functools import cache
from typing import cast

from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from telewarm.api.concurrency_limiter import AdaptiveConcurrencyLimiter, RequestClass, class_of, retry_after_seconds
from telewarm.api.heads import LimitedHttpProtocol
from telewarm.api.middleware.concurrency_limit import SLOT_EXTENSION, overloaded_response

DISCARD_STALL_SECONDS = 10.0  # seconds for which the body of a refused request may stand still


class LoadSheddingProtocol(LimitedHttpProtocol):
    """Rejects excess requests at a small part of the cost of the cheapest response, leaving time for accepted ones."""

    _discarding_body = False  # the body of a request that was refused

    def data_received(self, data: bytes) -> None:
        """Receive bytes."""
        super().data_received(data)
        if self._discarding_body:
            self._schedule_keepalive_timeout(DISCARD_STALL_SECONDS)

    def on_headers_complete(self) -> None:
        """Acquire a slot, or reject the request."""
        work = None if self._is_responding() else self._request_class()
        if work is None:
            super().on_headers_complete()
            return
        place = self._limiter.acquire(work)
        if place is None:
            self._stop_head_timer()
            self._reject_keepalive(work)
            return
        before = self.cycle
        try:
            super().on_headers_complete()
        finally:
            if self.cycle is before:  # it is no request after all: nobody would leave the place
                place.finish()
        self.scope["extensions"][SLOT_EXTENSION] = {"place": place}

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        if not self._discarding_body:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of the request."""
        if not self._discarding_body:
            super().on_message_complete()
            return
        self._discarding_body = False
        if self.parser.should_keep_alive():
            self._schedule_keepalive_timeout(self.timeout_keep_alive)
        else:
            self.transport.close()

    @property
    def _limiter(self) -> AdaptiveConcurrencyLimiter:
        return cast(AdaptiveConcurrencyLimiter, cast(FastAPI, self.config.app).state.admission)

    def _request_class(self) -> RequestClass | None:
        return class_of(self.parser.get_method().decode(), self.url.partition(b"?")[0].decode("latin-1"))

    def _reject_keepalive(self, request_class: RequestClass) -> None:
        """Reject a request and keep the connection, after the rest of the request: unread bytes would break it."""
        lasts = self.parser.should_keep_alive() and not self.expect_100_continue
        self.transport.write(_rejection(request_class, retry_after_seconds(), lasts))
        if self.expect_100_continue:  # then nobody knows whether the body comes
            self.transport.close()
        else:
            self._discarding_body = True

    def _schedule_keepalive_timeout(self, seconds: float) -> None:
        """Close an idle connection after some seconds."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)


@cache
def _rejection(request_class: RequestClass, retry_seconds: int, keep_alive: bool) -> bytes:  # noqa: FBT001 - a key of the cache
    answer = overloaded_response(request_class, retry_seconds)
    head = [b"%b: %b\r\n" % header for header in answer.raw_headers]
    last = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    return b"".join([STATUS_LINE[answer.status_code], *head, last, answer.body])
