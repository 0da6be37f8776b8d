"""Public files of the documentation pages."""

from __future__ import annotations

ASSETS_PATH = "docs/assets"
MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}
ASSET_PATHS = frozenset(f"/{ASSETS_PATH}/{name}" for name in MEDIA_TYPES)
