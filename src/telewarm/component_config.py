"""Configuration of each component, derived from the settings."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from telewarm.database import bots
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
MAX_BURST = 100_000  # messages; the largest value of a setting


def flood_limits(settings: Settings) -> BotLimits:
    """Return the flood limits of a bot."""
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
    """Return the policy for URLs of files."""
    return UrlPolicy(private=settings.telewarm_fetch_private, ports=frozenset(settings.telewarm_fetch_ports))


def _group_second_limit(settings: Settings, group: RateLimit) -> RateLimit | None:
    """Return the limit of a group's last second, never stricter than the longer window."""
    rate, burst = settings.telewarm_flood_group_per_second, settings.telewarm_flood_group_per_second_burst
    return None if group.seconds <= burst / rate else _limit(max(rate, group.rate), burst)


def _limit(rate: float, burst: int) -> RateLimit | None:
    """Return a limit; None for the largest burst: then only a 429 holds messages back."""
    return None if burst >= MAX_BURST else RateLimit(rate=rate, burst=burst)


def encryption_key(settings: Settings) -> bytes:
    """Return the key that encrypts tokens; created once in the data folder if none is set."""
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
    """Return the key that encrypts tokens, if there is one. Raises SettingsError."""
    if settings.encryption_key is None and not key_file(settings).exists():
        return None
    return encryption_key(settings)


def key_file(settings: Settings) -> Path:
    """Return the path of the key when ENCRYPTION_KEY is not set."""
    return settings.telewarm_data / "encryption.key"


async def require_known_key(settings: Settings, db: Executor) -> None:
    """Check that no new key is created while tokens are encrypted with a lost one. Raises SettingsError."""
    path = key_file(settings)
    if settings.encryption_key is not None or path.exists():
        return
    count = await bots.count(db)
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
    created: bool  # just now, by this process: nobody has seen it


def server_token(settings: Settings) -> ServerToken:
    """Return ADMIN_API_TOKEN, or the token in the data folder, created there if needed. Raises SettingsError."""
    if settings.admin_api_token is not None:
        return ServerToken(secret=settings.admin_api_token.get_secret_value(), path=None, created=False)
    path = settings.telewarm_data / "api.token"
    secret, made = _read_or_create(path, new_secret)
    if not secret.startswith(SECRET_PREFIX) or len(secret) < len(new_secret()):
        raise SettingsError(f"{path} holds no API token: delete the file, and the next start makes a new one")
    return ServerToken(secret=secret, path=path, created=made)


def _read_or_create(path: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """Return the secret in a file for its owner alone, and whether it was created now.

    Concurrent processes that find none all get the same. Raises SettingsError.
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
    """Create the file. Returns whether this secret is the one that was stored."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)  # the first process wins, and none ever reads half a secret
    except FileExistsError:
        return False
    else:
        return True
    finally:
        fresh.unlink()


def token_cipher(settings: Settings) -> RotatingTokenCipher:
    """Return the cipher of tokens. It follows a replaced key file; a key from the environment stays until a restart."""
    current = partial(encryption_key, settings) if settings.encryption_key is None else None
    return RotatingTokenCipher(encryption_key(settings), current)


def store_config(settings: Settings) -> FolderConfig | S3Config:
    """Return the configuration of the object store."""
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
    """Return the secrets in the settings. Of a database URL, the password only: the rest helps readers of a log."""
    remote = settings.object_storage
    token = remote and remote.session_token
    given = (settings.admin_api_token, settings.encryption_key, remote and remote.secret_access_key, token)
    urls = [url.get_secret_value() for url in (settings.database_url, settings.telewarm_proxy) if url]
    return [one.get_secret_value() for one in given if one] + [one for url in urls for one in secrets_of(url)]


def proxy(settings: Settings) -> str | None:
    """Return the proxy for calls to Telegram; None: none."""
    given = settings.telewarm_proxy
    return None if given is None or given.get_secret_value() == DIRECT_VALUE else given.get_secret_value()
