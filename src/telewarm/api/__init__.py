"""HTTP API: `/api/admin/...` for people and programs with a token, `/healthz` for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telewarm.api.app import create_api, create_monitoring_app
    from telewarm.api.dependencies import AppState

__all__ = ["AppState", "create_api", "create_monitoring_app"]


def __getattr__(name: str) -> object:
    """Import on first use: programs that only send never load FastAPI."""
    if name == "AppState":
        from telewarm.api.dependencies import AppState  # noqa: PLC0415 - see above

        return AppState
    if name in {"create_api", "create_monitoring_app"}:
        from telewarm.api import app  # noqa: PLC0415 - see above

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
