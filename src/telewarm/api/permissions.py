"""Roles by method and route. Pure: one table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from telewarm.api.assets import ASSET_PATHS
from telewarm.database.tokens import Role

READ_METHODS = frozenset({"GET", "HEAD"})
PUBLIC_PATHS = frozenset(
    {"/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", *ASSET_PATHS}
)  # all else is closed
ADMIN_PREFIX = "/api/admin"
BOT_PATH_REGEX = rf"{ADMIN_PREFIX}/bots/[^/]+"
SUBPATH_REGEX = r"(/.*)?"

# (methods, or None for all; the whole path; the role). The first that fits holds.
ROLE_RULES = tuple(
    (methods and frozenset(methods.split()), re.compile(path, re.DOTALL), role)
    for methods, path, role in (
        (None, rf"{ADMIN_PREFIX}/(tokens|audit){SUBPATH_REGEX}", Role.ADMIN),
        ("POST", rf"{ADMIN_PREFIX}/media/[^/]+/preview-url", Role.READ),  # to look is to read, whoever holds the URL
        ("GET HEAD", r".*", Role.READ),
        ("POST", rf"{ADMIN_PREFIX}/bots", Role.ADMIN),  # it brings a bot's token
        (None, rf"{BOT_PATH_REGEX}/(token|undelete)", Role.ADMIN),
        ("POST", rf"{ADMIN_PREFIX}/media/collect", Role.ADMIN),  # it reads the whole store, and what it finds goes
        ("DELETE", BOT_PATH_REGEX, Role.ADMIN),
        (
            None,
            rf"{BOT_PATH_REGEX}/(media|rewarm|send|sends|broadcasts|chats|warmup-chats?|check|pause|resume){SUBPATH_REGEX}",
            Role.OPERATE,
        ),
        (None, rf"{ADMIN_PREFIX}/(media|rewarm|sends|broadcasts|worker){SUBPATH_REGEX}", Role.OPERATE),
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """An authenticated caller, by the token's name."""

    name: str
    role: Role


def find_rule(method: str, path: str) -> Role | None:
    """Return the role in the table; None: no entry."""
    for methods, pattern, role in ROLE_RULES:
        if (methods is None or method in methods) and pattern.fullmatch(path):
            return role
    return None


def required_role(method: str, path: str) -> Role:
    """Return the role that a request needs. Routes without a rule require `admin` (deny by default)."""
    return find_rule(method, path) or Role.ADMIN


def route_path(scope: Mapping[str, Any]) -> str:
    """Return the path as the router sees it, without the mount point of the app."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    below = path.removeprefix(root)
    return below if root and below != path and (not below or below.startswith("/")) else path


def route_template(path: str, route: object) -> str:
    """Return the full template of a route: routers included under a prefix know only their part."""
    own = getattr(route, "path", None)
    if not isinstance(own, str):
        return "(no route)"
    prefix = path.split("/")[: max(0, path.count("/") - own.count("/")) + 1]
    return "/".join(prefix) + own
