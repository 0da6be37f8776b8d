"""What the settings mean to the parts: values in their own words."""

from __future__ import annotations

import os
import secrets
from functools import partial
from urllib.parse import unquote, urlsplit

from telewarm.database.sealing import RotatingSeal
from telewarm.fetch import Rules
from telewarm.settings import Settings
from telewarm.store import FolderConfig, S3Config
from telewarm.telegram import Limit, Limits, Spacing

UNLIMITED = 100_000  # messages at once; the largest that the settings take


def flood_limits(settings: Settings) -> Limits:
    spaced = settings.telewarm_flood_spacing and not settings.telegram_api_local
    return Limits(
        bot=_limit(settings.telewarm_flood_bot_per_second, settings.telewarm_flood_bot_burst),
        private_chat=_limit(settings.telewarm_flood_private_per_second, settings.telewarm_flood_private_burst),
        group=_limit(settings.telewarm_flood_group_per_minute / 60, settings.telewarm_flood_group_burst),
        same_size=Spacing() if spaced else None,
    )


def fetch_rules(settings: Settings) -> Rules:
    return Rules(private=settings.telewarm_fetch_private, ports=frozenset(settings.telewarm_fetch_ports))


def _limit(rate: float, burst: int) -> Limit | None:
    """None for the largest burst that a setting takes: nothing is counted then, and only a 429 holds messages back."""
    return None if burst >= UNLIMITED else Limit(rate=rate, burst=burst)


def encryption_key(settings: Settings) -> bytes:
    """The key that seals tokens; made once and kept in the data folder when none is set."""
    if settings.encryption_key is not None:
        return bytes.fromhex(settings.encryption_key.get_secret_value())
    path = settings.telewarm_data / "encryption.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # whoever is first wins, and nobody ever reads half a key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return bytes.fromhex(path.read_text(encoding="ascii"))


def seal_of(settings: Settings) -> RotatingSeal:
    """Follows a key file that is replaced; a key of the environment stays until the process is started again."""
    current = partial(encryption_key, settings) if settings.encryption_key is None else None
    return RotatingSeal(encryption_key(settings), current)


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
        public_base_url=remote.public_base_url,
        allow_http=remote.endpoint.startswith("http://"),
        path_style=remote.path_style,
    )


def secrets_of(settings: Settings) -> list[str]:
    """Of the settings. Of the database's URL the password, for the rest of it helps whoever reads a log."""
    remote = settings.object_storage
    given = (settings.admin_api_token, settings.encryption_key, remote and remote.secret_access_key)
    database = settings.database_url and urlsplit(settings.database_url.get_secret_value()).password
    return [one.get_secret_value() for one in given if one] + ([database, unquote(database)] if database else [])
