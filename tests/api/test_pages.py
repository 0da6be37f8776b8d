"""The documentation works without any network: whatever its pages need is here, and the browser may ask nobody else."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

import pytest

from tests.api.conftest import Api, client_of, refusal

NAMED = re.compile(r"(?:src|href|spec-url)=['\"]([^'\"]+)['\"]|url: '([^']+)'")
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
LEAST = {".js": ("text/javascript", 500_000), ".css": ("text/css", 100_000), ".json": ("application/json", 10_000)}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_page_names_nobody_else_and_all_that_it_names_is_served(api: Api, path: str) -> None:
    async with client_of(api.telewarm.api()) as stranger:
        page = await stranger.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert not re.findall(r"(?<!:)//\w|https?:", page.text)
        named = {one or other for one, other in NAMED.findall(page.text)} - {"data:,"}
        assert len(named) >= 2
        for name in named:
            mime, least = next(expected for ending, expected in LEAST.items() if name.endswith(ending))
            answer = await stranger.get(f"/{name}")
            assert answer.status_code == 200, name
            assert answer.headers["content-type"].startswith(mime)
            assert len(answer.content) > least
            assert (await stranger.head(path)).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_browser_is_told_to_ask_nobody_else_and_to_run_nothing_else(api: Api, path: str) -> None:
    page = await api.client.get(path)
    rules = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    scripts = [b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in SCRIPT.findall(page.text)]
    assert rules.pop("script-src").split() == ["'self'", *(f"'sha256-{one}'" for one in scripts)]
    assert rules.pop("style-src") == "'self' 'unsafe-inline'"
    assert (rules["default-src"], rules["connect-src"], rules["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert {word for rule in rules.values() for word in rule.split()} <= {"'none'", "'self'", "data:", "blob:"}
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["favicon.png", "..%2f..%2f__init__.py", "core.py", "%00"])
async def test_nothing_but_its_own_files_is_served(api: Api, name: str) -> None:
    refusal(await api.client.get(f"/docs/assets/{name}"), 404, "NOT_FOUND")
