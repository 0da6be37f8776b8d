"""Documentation pages: Swagger UI and ReDoc, served without the network.

Their scripts come with the package fastapi-offline. The browser may contact only this server.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from functools import cache
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

from telewarm.api.assets import ASSETS_PATH, MEDIA_TYPES
from telewarm.errors import NotFound

router = APIRouter(include_in_schema=False)

PAGE_TITLE = "Telewarm"
OPENAPI_URL = "openapi.json"  # beside the pages, wherever a proxy puts them
EMPTY_FAVICON_URL = "data:,"
INLINE_SCRIPT_PATTERN = re.compile(r"<script>(.*?)</script>", re.DOTALL)
SWAGGER_UI_PARAMETERS = {
    "docExpansion": "list",
    "filter": True,
    "displayRequestDuration": True,
    "defaultModelsExpandDepth": 0,
    "validatorUrl": None,
}


@router.head("/docs")
@router.get("/docs")
async def swagger() -> HTMLResponse:
    """Serve Swagger UI."""
    page = get_swagger_ui_html(
        openapi_url=OPENAPI_URL,
        title=PAGE_TITLE,
        swagger_js_url=f"{ASSETS_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS_PATH}/swagger-ui.css",
        swagger_favicon_url=EMPTY_FAVICON_URL,
        swagger_ui_parameters=SWAGGER_UI_PARAMETERS,
    )
    return _with_content_security_policy(page)


@router.head("/redoc")
@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """Serve ReDoc."""
    page = get_redoc_html(
        openapi_url=OPENAPI_URL,
        title=PAGE_TITLE,
        redoc_js_url=f"{ASSETS_PATH}/redoc.standalone.js",
        redoc_favicon_url=EMPTY_FAVICON_URL,
        with_google_fonts=False,
    )
    return _with_content_security_policy(page)


@router.head("/docs/assets/{name}")
@router.get("/docs/assets/{name}")
async def get_asset(name: str) -> FileResponse:
    """Serve a script or style. Raises NotFound."""
    if name not in MEDIA_TYPES:
        raise NotFound("the documentation has no such file")
    kept = {"Cache-Control": "max-age=86400", "X-Content-Type-Options": "nosniff"}
    return FileResponse(_assets_folder() / name, media_type=MEDIA_TYPES[name], headers=kept)


@cache
def _assets_folder() -> Path:
    """Return the folder of the assets. A wheel is always unpacked, so its files have paths."""
    return Path(str(files("fastapi_offline"))) / "static"


def _with_content_security_policy(page: HTMLResponse) -> HTMLResponse:
    """Allow only the scripts in the page and those of this server, and no requests to other servers."""
    body = bytes(page.body).decode()
    hashes = [
        b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in INLINE_SCRIPT_PATTERN.findall(body)
    ]
    page.headers["Content-Security-Policy"] = "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *(f"'sha256-{one}'" for one in hashes))),
            "style-src 'self' 'unsafe-inline'",  # both write styles as they go
            "img-src 'self' data:",
            "font-src data:",
            "connect-src 'self'",
            "worker-src blob:",  # ReDoc's search
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    page.headers["X-Content-Type-Options"] = "nosniff"
    page.headers["Referrer-Policy"] = "no-referrer"
    return page
