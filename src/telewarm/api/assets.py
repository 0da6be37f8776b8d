"""Files of the documentation pages: open to everybody."""

from __future__ import annotations

ASSETS = "docs/assets"
TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}
PATHS = frozenset(f"/{ASSETS}/{name}" for name in TYPES)
