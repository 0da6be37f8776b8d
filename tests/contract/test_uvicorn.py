"""What `telewarm.server` uses of uvicorn beyond its documented settings."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import uvicorn

from telewarm.server.asgi import CUT_OFF_MESSAGES, UvicornServer


@pytest.mark.parametrize("name", ["capture_signals", "startup"])
def test_the_methods_that_are_overridden_are_there(name: str) -> None:
    assert callable(getattr(uvicorn.Server, name, None)), (
        f"uvicorn.Server.{name} is gone: telewarm.server.asgi overrides it to keep signals, and to know when it listens"
    )
    assert list(inspect.signature(getattr(uvicorn.Server, name)).parameters) == list(
        inspect.signature(getattr(UvicornServer, name)).parameters
    )


def test_serve_calls_what_is_overridden() -> None:
    source = inspect.getsource(uvicorn.Server)
    assert "self.capture_signals()" in source
    assert "self.startup(" in source


@pytest.mark.parametrize("message", CUT_OFF_MESSAGES)
def test_the_messages_that_are_kept_from_the_log_of_errors_are_still_uvicorns(message: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(uvicorn.__file__).parent.rglob("*.py")]
    assert any(message in text for text in texts), f"uvicorn words {message!r} otherwise: see CutOffFilter"
