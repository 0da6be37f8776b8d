"""Configuration of each component, made from the settings."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from telewarm.database.connection import Executor
from telewarm.database.token_encryption import RotatingTokenCipher
from telewarm.database.tokens import SECRET_PREFIX, new_secret
from telewarm.errors import SettingsError
from telewarm.fetch import UrlPolicy
from telewarm.flood_control.limits import BotLimits, RateLimit, SameSizeSpacing
from telewarm.settings import Settings
from telewarm.settings.database_urls import secrets_of
from telewarm.settings.proxies import DIRECT_VALUE
from telewarm.storage.config import FolderConfig, S3Config

log = structlog.get_logger(__name__)

KEY_BYTES = 32
MAX_BURST = 100_000  # messages at once; the largest that the settings take


def flood_limits(settings: Settings) -> BotLimits:
    group = _limit(settings.telewarm_flood_group_per_minute / 60, settings.telewarm_flood_group_burst)
    spaced = settings.telewarm_flood_spacing and not settings.telegram_api_local
    return BotLimits(
        bot=_limit(settings.telewarm_flood_bot_per_second, settings.telewarm_flood_bot_burst),
        private_chat=_limit(settings.telewarm_flood_private_per_second, settings.telewarm_flood_private_burst),
        group=group,
        group_second=None if group is None else _group_second_limit(settings, group),
        same_size=SameSizeSpacing() if spaced else None,
    )


def url_policy(settings: Settings) -> UrlPolicy:
    return UrlPolicy(private=settings.telewarm_fetch_private, ports=frozenset(settings.telewarm_fetch_ports))


def _group_second_limit(settings: Settings, group: RateLimit) -> RateLimit | None:
    """It spaces out what the longer window of a group takes, and never holds back more than that does."""
    rate, burst = settings.telewarm_flood_group_per_second, settings.telewarm_flood_group_per_second_burst
    return None if group.seconds <= burst / rate else _limit(max(rate, group.rate), burst)


def _limit(rate: float, burst: int) -> RateLimit | None:
    """None for the largest burst that a setting takes: nothing is counted then, and only a 429 holds messages back."""
    return None if burst >= MAX_BURST else RateLimit(rate=rate, burst=burst)


def encryption_key(settings: Settings) -> bytes:
    """The key that seals tokens; made once and kept in the data folder when none is set."""
    if settings.encryption_key is not None:
        return bytes.fromhex(settings.encryption_key.get_secret_value())
    path = key_file(settings)
    held, _ = _read_or_create(path, lambda: secrets.token_hex(KEY_BYTES))
    try:
        key = bytes.fromhex(held)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(f"{path} holds no key: put back your copy of it, or set ENCRYPTION_KEY")
    return key


def existing_key(settings: Settings) -> bytes | None:
    """The key that seals tokens, if there is one already. Raises SettingsError."""
    if settings.encryption_key is None and not key_file(settings).exists():
        return None
    return encryption_key(settings)


def key_file(settings: Settings) -> Path:
    """Where the key is kept when ENCRYPTION_KEY is not set."""
    return settings.telewarm_data / "encryption.key"


async def require_known_key(settings: Settings, db: Executor) -> None:
    """No new key is made while tokens are sealed with one that is gone. Raises SettingsError."""
    path = key_file(settings)
    if settings.encryption_key is not None or path.exists():
        return
    count = await db.fetchval("SELECT count(*) FROM bot")
    if count:
        sealed = "the token of 1 bot is sealed" if count == 1 else f"the tokens of {count} bots are sealed"
        raise SettingsError(
            f"{path} is missing, and in this database {sealed} with the key that it held. "
            "Put back your copy of that file, or set ENCRYPTION_KEY to what it held. If it is lost for good: "
            f"openssl rand -hex 32 > {path}, then give each bot its token again with telewarm bot token"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerToken:
    """The server's own API token, with the role admin. `path` None: it is ADMIN_API_TOKEN."""

    secret: str = field(repr=False)
    path: Path | None
    created: bool  # a moment ago, by this process: nobody has seen it


def server_token(settings: Settings) -> ServerToken:
    """ADMIN_API_TOKEN, or the one of the data folder; made there when there is none. Raises SettingsError."""
    if settings.admin_api_token is not None:
        return ServerToken(secret=settings.admin_api_token.get_secret_value(), path=None, created=False)
    path = settings.telewarm_data / "api.token"
    secret, made = _read_or_create(path, new_secret)
    if not secret.startswith(SECRET_PREFIX) or len(secret) < len(new_secret()):
        raise SettingsError(f"{path} holds no API token: delete the file, and the next start makes a new one")
    return ServerToken(secret=secret, path=path, created=made)


def _read_or_create(path: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """A secret in a file that only its owner may read, and whether it was made now. However many processes ask at once
    for one that is not there, all get the same. Raises SettingsError.
    """
    try:
        if made := not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = _create(path, make())
        if (mode := path.stat().st_mode & 0o777) & 0o077:
            log.warning("secret_file_was_readable_by_others", path=str(path), mode=f"{mode:04o}")
            path.chmod(0o600)
        return path.read_text(encoding="ascii").strip(), made
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(
            f"the secret in {path} cannot be read or made ({reason}): run as the owner of the data folder, or choose "
            "another with TELEWARM_DATA"
        ) from error


def _create(path: Path, secret: str) -> bool:
    """Whether it is this one that is kept now."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)  # whoever is first wins, and nobody ever reads half a secret
    except FileExistsError:
        return False
    else:
        return True
    finally:
        fresh.unlink()


def token_cipher(settings: Settings) -> RotatingTokenCipher:
    """Follows a key file that is replaced; a key of the environment stays until the process is started again."""
    current = partial(encryption_key, settings) if settings.encryption_key is None else None
    return RotatingTokenCipher(encryption_key(settings), current)


def store_config(settings: Settings) -> FolderConfig | S3Config:
    remote = settings.object_storage
    if remote is None:
        return FolderConfig(root=settings.store_folder)
    return S3Config(
        bucket=remote.bucket,
        endpoint=remote.endpoint,
        region=remote.region,
        access_key_id=remote.access_key_id,
        secret_access_key=remote.secret_access_key.get_secret_value(),
        session_token=None if remote.session_token is None else remote.session_token.get_secret_value(),
        public_base_url=remote.public_base_url,
        allow_http=remote.endpoint.startswith("http://"),
        path_style=remote.path_style,
    )


def secret_values(settings: Settings) -> list[str]:
    """Of the settings. Of the database's URL the password, for the rest of it helps whoever reads a log."""
    remote = settings.object_storage
    token = remote and remote.session_token
    given = (settings.admin_api_token, settings.encryption_key, remote and remote.secret_access_key, token)
    urls = [url.get_secret_value() for url in (settings.database_url, settings.telewarm_proxy) if url]
    return [one.get_secret_value() for one in given if one] + [one for url in urls for one in secrets_of(url)]


def proxy(settings: Settings) -> str | None:
    """What calls to Telegram go through; None: nothing."""
    given = settings.telewarm_proxy
    return None if given is None or given.get_secret_value() == DIRECT_VALUE else given.get_secret_value()
