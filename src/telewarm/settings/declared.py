"""Declarations of all settings, by group. The name in the environment or `.env` is the field's in upper case."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ByteSize, ConfigDict, SecretStr

from telewarm.settings import checks
from telewarm.settings.fields import Group, data_home, setting

MIB = 1 << 20


class SettingsFields(BaseModel):
    """The fields; `Settings` adds the rules that involve several of them."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=str.upper, hide_input_in_errors=True, validate_default=True
    )

    telewarm_data: Path = setting(
        Group.GENERAL,
        "The data folder: the embedded database, the folder store, the disk cache, the generated key and API token. "
        "Put it on a disk that is backed up.",
        default=data_home,
        default_text="your data home (root: /var/lib/telewarm)",
        example="/var/lib/telewarm",
    )
    admin_api_token: SecretStr | None = setting(
        Group.GENERAL,
        "What clients of the HTTP API send as `Authorization: Bearer …`; at least 16 characters, hard to guess. "
        f"Make one with `{checks.GENERATE_COMMAND}`. `telewarm token show` prints the one that holds.",
        default=None,
        default_text="made once and kept in the data folder",
        example="",
    )
    encryption_key: SecretStr | None = setting(
        Group.GENERAL,
        "Seals bot tokens in the database. Keep a copy: without it the tokens cannot be read again. "
        f"Make one with `{checks.GENERATE_COMMAND}`.",
        default=None,
        unit="64 hex digits",
        default_text="made once and kept in the data folder",
        example="",
    )
    telewarm_log_format: Literal["auto", "pretty", "json"] = setting(
        Group.GENERAL, "auto: pretty on a terminal, JSON lines elsewhere.", default="auto", example="json"
    )
    telewarm_log_level: Literal["debug", "info", "warning", "error"] = setting(
        Group.GENERAL, "The least serious log line that is written.", default="info", example="warning"
    )
    telewarm_event_listeners: int = setting(
        Group.GENERAL,
        "Streams of GET /api/admin/events that one process serves at once; one more is answered 503.",
        default=1000,
        unit="streams",
        example="100",
        ge=1,
        le=100_000,
    )

    database_url: SecretStr | None = setting(
        Group.DATABASE,
        "PostgreSQL 14 or newer, as your provider's console shows it, but the direct address and not that of a pooler "
        "such as PgBouncer. Set it to run Telewarm on several machines.",
        default=None,
        default_text="an embedded PostgreSQL in the data folder",
        example="postgresql://telewarm:password@db.example.org:5432/telewarm",
    )
    telewarm_database_pool: int = setting(
        Group.DATABASE,
        "Connections a process opens at most for its work. Up to 4 more keep its lease and its heartbeats. "
        "All processes together must fit the server's max_connections.",
        default=10,
        unit="connections",
        example="20",
        ge=4,
        le=1000,
    )

    telewarm_store_folder: Path | None = setting(
        Group.STORE,
        "Where media are kept when neither R2_* nor S3_* is set.",
        default=None,
        default_text="media in the data folder",
        example="/srv/media",
    )
    r2_account_id: str | None = setting(
        Group.STORE,
        "Cloudflare R2: the account. A bucket bound to a jurisdiction needs S3_* with its own endpoint.",
        default=None,
        example="023e105f4ecef8ad9ca31a8372d0c353",
        pattern=r"^[0-9A-Za-z-]+$",
    )
    r2_access_key_id: str | None = setting(
        Group.STORE, "Cloudflare R2: the key's id.", default=None, example="0a1b2c3d4e5f"
    )
    r2_secret_access_key: SecretStr | None = setting(
        Group.STORE,
        "Cloudflare R2: the key.",
        default=None,
        example="the-secret-shown-once-by-cloudflare",
    )
    r2_bucket: str | None = setting(Group.STORE, "Cloudflare R2: the bucket.", default=None, example="media")
    r2_public_base_url: str | None = setting(
        Group.STORE,
        "Cloudflare R2: where the bucket is public, if it is. With TELEWARM_URL_WARMUP Telegram then fetches media "
        "from there, without a signature.",
        default=None,
        example="https://media.example.org",
    )
    s3_endpoint: str | None = setting(
        Group.STORE,
        "Any S3: the server's address, with the path before the bucket if it has one.",
        default=None,
        default_text="Amazon's for S3_REGION",
        example="https://s3.eu-central-1.amazonaws.com",
    )
    s3_region: str = setting(Group.STORE, "Any S3: the region.", default="us-east-1", example="eu-central-1")
    s3_bucket: str | None = setting(Group.STORE, "Any S3: the bucket.", default=None, example="media")
    s3_access_key_id: str | None = setting(
        Group.STORE, "Any S3: the key's id.", default=None, example="AKIAIOSFODNN7EXAMPLE"
    )
    s3_secret_access_key: SecretStr | None = setting(
        Group.STORE, "Any S3: the key.", default=None, example="the-secret-that-belongs-to-the-id"
    )
    s3_session_token: SecretStr | None = setting(
        Group.STORE,
        "Any S3: the session token of temporary credentials. They are not renewed: restart with fresh ones in time.",
        default=None,
        example="the-token-that-came-with-the-key",
    )
    s3_public_base_url: str | None = setting(
        Group.STORE,
        "Any S3: where the bucket is public, if it is. With TELEWARM_URL_WARMUP Telegram then fetches media from "
        "there, without a signature.",
        default=None,
        example="https://cdn.example.org/media",
    )
    s3_path_style: bool = setting(
        Group.STORE,
        "Any S3: the bucket in the path (true: works nearly everywhere) or in the host name (false).",
        default=True,
        example="false",
    )
    telewarm_spool_bytes: ByteSize = setting(
        Group.STORE,
        "Local disk for hot blobs, so that fresh uploads are warmed without reading the store.",
        default=ByteSize(1 << 30),
        unit="bytes, or with KiB, MiB, GiB",
        default_text="1 GiB",
        example="4GiB",
        ge=MIB,
    )
    telewarm_max_upload_bytes: ByteSize | None = setting(
        Group.STORE,
        "The largest file that is taken in.",
        default=None,
        unit="bytes, or with KiB, MiB, GiB",
        default_text="50 MiB, with TELEGRAM_API_LOCAL 2000 MiB",
        example="20MiB",
        ge=1,
    )
    telewarm_max_batch_files: int = setting(
        Group.STORE,
        "Files that one batch upload may have.",
        default=100,
        unit="files",
        example="500",
        ge=1,
        le=10_000,
    )

    telewarm_fetch_private: bool = setting(
        Group.STORE,
        "Media that are added by URL may come from addresses of a private network and of this machine too. Whoever may "
        "add media can then read what is served there without a password; a cloud's metadata stay closed.",
        default=False,
        example="true",
    )
    telewarm_fetch_ports: tuple[int, ...] = setting(
        Group.STORE,
        "Ports that media may be fetched from by URL, beside 80 and 443.",
        default=(),
        unit="ports, with commas",
        default_text="none",
        example="8080,8443",
    )

    telegram_api_root: str = setting(
        Group.TELEGRAM,
        "The Bot API server: the hosted one, your own, or the sandbox. It may have a path.",
        default="https://api.telegram.org",
        example="http://127.0.0.1:8081",
    )
    telewarm_proxy: SecretStr | None = setting(
        Group.TELEGRAM,
        "The HTTP proxy that calls to Telegram go through, with user and password if it wants them; `direct`: none.",
        default=None,
        default_text="HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, but for hosts in NO_PROXY",
        example="http://127.0.0.1:3128",
    )
    telegram_api_local: bool = setting(
        Group.TELEGRAM,
        "Your own Bot API server runs with --local: files up to 2000 MB, read from disk where both see it, "
        "no spacing of same-size uploads.",
        default=False,
        example="true",
    )
    telewarm_on_cold: Literal["upload", "wait", "fail"] = setting(
        Group.TELEGRAM,
        "A send of media without a file id: upload it to the recipient, wait for its warm-up, "
        "or fail with MEDIA_NOT_READY.",
        default="upload",
        example="wait",
    )
    telewarm_broadcast_concurrency: int = setting(
        Group.TELEGRAM,
        "Recipients of one broadcast in hand at once, from written down to answered: after a crash so many at most are "
        "unknown. Only as many as the flood limits let go at once are taken.",
        default=200,
        unit="recipients",
        example="30",
        ge=1,
        le=1000,
    )

    media_prewarm_concurrency: int = setting(
        Group.WARMUP,
        "Warm-ups in flight for one bot. More helps until floods or the network stop it: 20 on a fast line.",
        default=5,
        unit="warm-ups",
        example="20",
        ge=1,
        le=100,
    )
    media_prewarm_max_queue: int = setting(
        Group.WARMUP,
        "Claimed media that one worker holds in memory; the rest waits in the database. Nothing is refused or lost.",
        default=500,
        unit="media items",
        example="1000",
        ge=1,
        le=100_000,
    )
    media_prewarm_interval_ms: int = setting(
        Group.WARMUP,
        "The sweep that finds due work nobody was woken for. Work is normally begun within milliseconds, without it.",
        default=2000,
        unit="ms",
        example="5000",
        ge=100,
        le=3_600_000,
    )
    media_prewarm_retry_weak_id: int = setting(
        Group.WARMUP,
        "Uploads again when Telegram returned a weak id (no unique id, or one of 10 characters or fewer).",
        default=0,
        unit="times",
        example="1",
        ge=0,
        le=10,
    )
    telewarm_url_warmup: bool = setting(
        Group.WARMUP,
        "Lets Telegram fetch media from the bucket by presigned URL (photos to 5 MB, PDF and ZIP files without a name "
        "of their own to 20 MB, voice notes to 1 MB): nothing is uploaded from here. The bucket must be reachable from "
        "the internet; no effect with a folder store.",
        default=False,
        example="true",
    )

    telewarm_retry_limit: int = setting(
        Group.RETRIES,
        "Failed attempts after which a media item becomes `error`. Flood waits are not attempts.",
        default=8,
        unit="attempts",
        example="12",
        ge=1,
        le=1000,
    )
    telewarm_retry_base_ms: int = setting(
        Group.RETRIES,
        "The longest wait before the second attempt; it doubles with each further one and is drawn at random.",
        default=500,
        unit="ms",
        example="1000",
        ge=1,
        le=3_600_000,
    )
    telewarm_retry_max_ms: int = setting(
        Group.RETRIES,
        "No wait between two attempts is longer than this.",
        default=300_000,
        unit="ms",
        default_text="300000 (5 minutes)",
        example="60000",
        ge=1,
        le=86_400_000,
    )

    telewarm_flood_bot_per_second: float = setting(
        Group.FLOODS,
        "Messages a second for one bot. Raise it only with paid broadcasts or on a server of your own.",
        default=30.0,
        unit="messages/s",
        default_text="30",
        example="25",
        gt=0,
        le=100_000,
        allow_inf_nan=False,
    )
    telewarm_flood_bot_burst: int = setting(
        Group.FLOODS,
        "Messages one bot may send at once; 100000 is no limit at all.",
        default=30,
        unit="messages",
        example="20",
        ge=1,
        le=100_000,
    )
    telewarm_flood_private_per_second: float = setting(
        Group.FLOODS,
        "Messages a second to one private chat.",
        default=1.0,
        unit="messages/s",
        default_text="1",
        example="0.5",
        gt=0,
        le=100_000,
        allow_inf_nan=False,
    )
    telewarm_flood_private_burst: int = setting(
        Group.FLOODS,
        "Messages at once to one private chat; 100000 is no limit.",
        default=3,
        unit="messages",
        example="5",
        ge=1,
        le=100_000,
    )
    telewarm_flood_group_per_minute: float = setting(
        Group.FLOODS,
        "Messages a minute to one group or channel, warm-up chats included: a bot with several warms faster.",
        default=20.0,
        unit="messages/min",
        default_text="20",
        example="15",
        gt=0,
        le=6_000_000,
        allow_inf_nan=False,
    )
    telewarm_flood_group_burst: int = setting(
        Group.FLOODS,
        "Messages at once to one group or channel; 100000 is no limit.",
        default=20,
        unit="messages",
        example="10",
        ge=1,
        le=100_000,
    )
    telewarm_flood_group_per_second: float = setting(
        Group.FLOODS,
        "Messages a second to one group or channel, beside those a minute; a larger number of those counts instead.",
        default=1.0,
        unit="messages/s",
        default_text="1",
        example="2",
        gt=0,
        le=100_000,
        allow_inf_nan=False,
    )
    telewarm_flood_group_per_second_burst: int = setting(
        Group.FLOODS,
        "Messages that may follow each other at once within that; 100000 counts no seconds, only the minute.",
        default=3,
        unit="messages",
        example="5",
        ge=1,
        le=100_000,
    )
    telewarm_flood_spacing: bool = setting(
        Group.FLOODS,
        "Spaces uploads of the same size, as the hosted server demands above 100 kB; no effect with "
        "TELEGRAM_API_LOCAL.",
        default=True,
        example="false",
    )
