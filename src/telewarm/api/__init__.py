"""The HTTP API: `/api/admin/...` for people and programs with the token, `/healthz` for everybody."""

from telewarm.api.app import create_api, create_watch
from telewarm.api.services import Services

__all__ = ["Services", "create_api", "create_watch"]
