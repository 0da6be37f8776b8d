"""Normalisation of DATABASE_URL, as hosting providers and other libraries write it, for asyncpg and libpq."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from telewarm.settings.checks import split_url

PASTED_PREFIX_PATTERN = re.compile(r"""^(?:psql|export|DATABASE_URL=|jdbc:|\s)+""")  # prefixes of a pasted line
DRIVER_PATTERN = re.compile(r"^(postgres(?:ql)?)\+[a-z0-9_]+(?=://)")  # SQLAlchemy's driver suffix
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Parameters of clients that a server does not need.
IGNORED_PARAMETERS = frozenset(
    {
        # libpq
        "channel_binding", "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval",
        "keepalives_count", "tcp_user_timeout", "gssencmode", "gssdelegation", "requirepeer", "require_auth",
        "sslcompression", "sslsni",
        "sslcertmode", "load_balance_hosts", "client_encoding", "fallback_application_name", "application_name",
        "min_protocol_version", "max_protocol_version", "requiressl",
        # Prisma, Drizzle, node-postgres, Supabase, Vercel
        "pgbouncer", "connection_limit", "pool_timeout", "pool_max_conns", "socket_timeout", "statement_cache_size",
        "sslaccept", "sslidentity", "uselibpqcompat", "supa", "workaround", "max", "pool",
        # JDBC, Npgsql and other programs
        "applicationname", "logintimeout", "connecttimeout", "sockettimeout", "tcpkeepalive", "sslfactory",
        "preparethreshold", "stringtype", "reconnect", "pool_size", "max_overflow", "conn_max_age", "statuscolor",
        "environment", "tlsmode", "usessh", "name", "serverversion", "charset",
    }
)  # fmt: skip
SCHEMA_PARAMETERS = frozenset({"schema", "currentschema"})  # names of Prisma and JDBC
TRUE_VALUES = frozenset({"true", "1", "on", "yes", ""})
# Ports and hosts that consoles show for other services than PostgreSQL.
UNSUPPORTED_SCHEMES = {
    "prisma": "is for Prisma's own proxy: take the direct URL, which begins with postgresql://",
    "prisma+postgres": "is for Prisma's own proxy: take the direct URL, which begins with postgresql://",
    "mysql": "is for MySQL: Telewarm needs PostgreSQL",
    "sqlite": "is for SQLite: Telewarm needs PostgreSQL, or none for the embedded one",
    "http": "is a web address: copy the connection string, which begins with postgresql://",
    "https": "is a web address: copy the connection string, which begins with postgresql://",
}


def normalize_database_url(text: str) -> str:
    """Normalise a URL. Raises ValueError without repeating it."""
    url = DRIVER_PATTERN.sub(r"\1", PASTED_PREFIX_PATTERN.sub("", text.strip()).strip("'\"` \t;"))
    scheme = url.partition(":")[0].lower()
    if scheme in UNSUPPORTED_SCHEMES:
        raise ValueError(UNSUPPORTED_SCHEMES[scheme])
    if scheme not in {"postgresql", "postgres"} or "://" not in url:
        raise ValueError("must begin with postgresql://")
    _check(url)
    base, _, query = url.partition("?")
    kept = _normalize_parameters(parse_qsl(query, keep_blank_values=True))
    asked = urlencode(kept, quote_via=quote, safe="/,:-")
    return f"{base}?{asked}" if asked else base


def secrets_of(url: str) -> list[str]:
    """Return every secret in the URL, encoded and decoded."""
    try:
        parts = urlsplit(url)
        written = [parts.password or ""]
    except ValueError:
        return []
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if name.lower() in {"password", "sslpassword", "passwd", "pwd"}:
            written.append(value)
    return list(dict.fromkeys(one for value in written if value for one in (value, unquote(value))))


def _check(url: str) -> None:
    head, slash, rest = url.partition("://")
    place, path, tail = rest.partition("/")
    user, at, hosts = place.rpartition("@")
    first = hosts.split(",", maxsplit=1)[0]  # several hosts are libpq's own syntax
    parts = split_url(f"{head}{slash}{user}{at}{first}{path}{tail}")
    if parts.fragment:
        raise ValueError("has a '#' in it: special characters in the password must be percent-encoded")


def _normalize_parameters(parameters: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep the parameters that matter, under asyncpg's names."""
    kept: dict[str, str] = {}
    for name, value in parameters:
        low = name.lower()
        if low in SCHEMA_PARAMETERS:
            kept["options"] = f"{kept.get('options', '')} -c search_path={value}".strip()
        elif low == "options":
            kept["options"] = f"{kept.get('options', '')} {value}".strip()
        elif low in {"ssl", "usessl"}:
            kept.setdefault("sslmode", "require" if value.lower() in TRUE_VALUES else _ssl_mode(value))
        elif low == "sslmode":
            kept["sslmode"] = _ssl_mode(value)
        elif low == "sslrootcert":
            kept |= _root_certificate(value)
        elif low not in IGNORED_PARAMETERS:
            kept[name] = value
    if "sslrootcert" not in kept and kept.get("sslmode") in {"verify-ca", "verify-full"} and _system_roots():
        kept["sslrootcert"] = _system_roots()
    return list(kept.items())


def _ssl_mode(value: str) -> str:
    mode = {"no-verify": "require", "true": "require", "false": "disable", "required": "require"}.get(
        value.lower(), value.lower()
    )
    if mode not in SSL_MODES:
        raise ValueError(f"has an sslmode that there is not: write one of {', '.join(SSL_MODES)}")
    return mode


def _root_certificate(value: str) -> dict[str, str]:
    if value == "system":
        return {"sslmode": "verify-full"}
    if not Path(value).is_file():
        raise ValueError(
            "has an sslrootcert that is no file on this machine: download your provider's certificate and give its"
            " path, or leave sslrootcert out"
        )
    return {"sslrootcert": value}


def _system_roots() -> str:
    """Return the system's CA file, for a mode that needs one and names none."""
    return ssl.get_default_verify_paths().cafile or ""
