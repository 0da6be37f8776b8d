"""Settings as one frozen value, read once from a mapping and a `.env` file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from telewarm.errors import SettingsError
from telewarm.settings import checks, database_urls, proxies
from telewarm.settings.declared import MIB, SettingsFields
from telewarm.settings.fields import EnvVar, variables_of
from telewarm.settings.files import resolve_folders

CLOUD_UPLOAD_BYTES = 50 * MIB
LOCAL_UPLOAD_BYTES = 2000 * MIB
R2_REQUIRED = ("R2_ACCOUNT_ID", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "R2_BUCKET")
HOSTED_API_ROOT = "https://api.telegram.org"
S3_REQUIRED = ("S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
OWN_PREFIXES = ("TELEWARM_", "MEDIA_PREWARM_")  # an unknown name with such a prefix is a typing error
MIN_SIMILARITY = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectStorage:
    """Object storage by R2_* or S3_*, under S3's names."""

    endpoint: str
    region: str
    bucket: str
    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None
    public_base_url: str | None
    path_style: bool


class Settings(SettingsFields):
    """All settings. Create with `from_environ`."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], env_file: Path | None) -> Settings:
        """Read the variables from `environ`, and those that are not set there from `env_file`, if given.

        An empty variable counts as not set. Raises SettingsError with every problem, without repeating a value.
        """
        given = set_variables(environ, env_file)
        slips = _misspelled_names(given)
        machine_proxy = proxies.proxy_for(given.get("TELEGRAM_API_ROOT", HOSTED_API_ROOT), given)
        if machine_proxy is not None and "TELEWARM_PROXY" not in given:
            given["TELEWARM_PROXY"] = machine_proxy[1]
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            problems = [*slips, *(_describe_problem(detail) for detail in error.errors(include_input=False))]
        else:
            if not slips:
                return settings
            problems = slips
        # Not chained: pydantic's error holds the values.
        raise SettingsError("\n".join(problems)) from None

    @property
    def store_folder(self) -> Path:
        """Folder of the object store."""
        return self.telewarm_store_folder or self.telewarm_data / "media"

    @property
    def max_upload_bytes(self) -> int:
        """Maximum size of an uploaded file."""
        largest = LOCAL_UPLOAD_BYTES if self.telegram_api_local else CLOUD_UPLOAD_BYTES
        return min(self.telewarm_max_upload_bytes or largest, largest)

    @property
    def object_storage(self) -> ObjectStorage | None:
        """Bucket of the object store; None: media are stored in `store_folder`."""
        if self.r2_bucket and self.r2_access_key_id and self.r2_secret_access_key:
            return ObjectStorage(
                endpoint=f"https://{self.r2_account_id}.r2.cloudflarestorage.com",
                region="auto",
                bucket=self.r2_bucket,
                access_key_id=self.r2_access_key_id,
                secret_access_key=self.r2_secret_access_key,
                session_token=None,
                public_base_url=self.r2_public_base_url,
                path_style=True,
            )
        if self.s3_bucket and self.s3_access_key_id and self.s3_secret_access_key:
            return ObjectStorage(
                endpoint=self.s3_endpoint or f"https://s3.{self.s3_region}.amazonaws.com",
                region=self.s3_region,
                bucket=self.s3_bucket,
                access_key_id=self.s3_access_key_id,
                secret_access_key=self.s3_secret_access_key,
                session_token=self.s3_session_token,
                public_base_url=self.s3_public_base_url,
                path_style=self.s3_path_style,
            )
        return None

    @field_validator("telewarm_data", "telewarm_store_folder")
    @classmethod
    def _folder(cls, path: Path | None) -> Path | None:
        return path and checks.folder(path)

    @field_validator("telegram_api_root")
    @classmethod
    def _api_root(cls, url: str) -> str:
        return checks.api_root(url)

    @field_validator("s3_endpoint", "r2_public_base_url", "s3_public_base_url")
    @classmethod
    def _base_url(cls, url: str | None) -> str | None:
        return url and checks.http_url(url)

    @field_validator("r2_bucket", "s3_bucket")
    @classmethod
    def _bucket(cls, name: str | None) -> str | None:
        return name and checks.bucket(name)

    @field_validator("r2_access_key_id", "s3_access_key_id", "s3_region")
    @classmethod
    def _ascii(cls, text: str | None) -> str | None:
        return text and checks.printable_ascii(text)

    @field_validator("r2_secret_access_key", "s3_secret_access_key", "s3_session_token")
    @classmethod
    def _ascii_secret(cls, text: SecretStr | None) -> SecretStr | None:
        return text and SecretStr(checks.printable_ascii(text.get_secret_value()))

    @field_validator("telewarm_proxy")
    @classmethod
    def _proxy(cls, url: SecretStr | None) -> SecretStr | None:
        return url and SecretStr(proxies.proxy_url(url.get_secret_value()))

    @field_validator("telewarm_fetch_ports", mode="before")
    @classmethod
    def _ports(cls, ports: object) -> object:
        return checks.ports(ports)

    @field_validator("database_url")
    @classmethod
    def _database_url(cls, url: SecretStr | None) -> SecretStr | None:
        return url and SecretStr(database_urls.normalize_database_url(url.get_secret_value()))

    @field_validator("encryption_key")
    @classmethod
    def _encryption_key(cls, key: SecretStr | None) -> SecretStr | None:
        return key and SecretStr(checks.encryption_key(key.get_secret_value()))

    @field_validator("admin_api_token")
    @classmethod
    def _admin_api_token(cls, token: SecretStr | None) -> SecretStr | None:
        return token and SecretStr(checks.bearer_token(token.get_secret_value()))

    @model_validator(mode="after")
    def _one_whole_store(self) -> Self:
        chosen = {name for name in self.model_fields_set if getattr(self, name) is not None}
        begun = [
            (prefix, needs)
            for prefix, needs in (("r2_", R2_REQUIRED), ("s3_", S3_REQUIRED))
            if any(name.startswith(prefix) for name in chosen)
        ]
        if len(begun) == 2:
            raise ValueError("R2_* and S3_* are both set: set the variables of one, for media are kept in one place")
        for prefix, needs in begun:
            missing = [name for name in needs if name.lower() not in chosen]
            if missing:
                raise ValueError(
                    f"{prefix.upper()}* is only partly set: {', '.join(missing)} missing; for example "
                    + " ".join(
                        f"{variable.name}={variable.example}" for variable in variables() if variable.name in missing
                    )
                )
        return self

    @model_validator(mode="after")
    def _bucket_once(self) -> Self:
        """Remove the bucket from an endpoint that contains it, as consoles show it."""
        parts = urlsplit(self.s3_endpoint or "")
        if self.s3_bucket and (parts.path == f"/{self.s3_bucket}" or parts.netloc.startswith(f"{self.s3_bucket}.")):
            raise ValueError(
                "S3_ENDPOINT has the bucket's name in it: leave it out there, for S3_BUCKET says it; "
                "for example S3_ENDPOINT=https://s3.eu-central-1.amazonaws.com"
            )
        return self

    @model_validator(mode="after")
    def _retries_in_order(self) -> Self:
        if self.telewarm_retry_base_ms > self.telewarm_retry_max_ms:
            raise ValueError(
                "TELEWARM_RETRY_BASE_MS must not be above TELEWARM_RETRY_MAX_MS; "
                "for example TELEWARM_RETRY_BASE_MS=500 TELEWARM_RETRY_MAX_MS=300000"
            )
        return self


def variables() -> list[EnvVar]:
    """Return every setting, in the order of the documentation."""
    return variables_of(Settings.model_fields)


def set_variables(environ: Mapping[str, str], env_file: Path | None) -> dict[str, str]:
    """Return the non-empty settings; the environment wins over the file. Folders in the file are relative to it.

    Raises SettingsError if the file cannot be read.
    """
    written = resolve_folders(env_file, read_env_file(env_file)) if env_file and env_file.is_file() else {}
    given = {name: checks.strip_whitespace(value) for name, value in {**written, **environ}.items() if value}
    return {name: value for name, value in given.items() if value}


def read_env_file(env_file: Path) -> dict[str, str | None]:
    """Parse a `.env` file. `$` is not substituted: passwords contain it more often than people want a variable.

    Raises SettingsError for an unreadable file, and for a line that sets nothing, such as `NAME: value`.
    """
    try:
        text = env_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{env_file} cannot be read: it must be a UTF-8 text file of yours") from None
    wrong = [
        f"{env_file} line {binding.original.line + _leading_blank_lines(binding.original.string)}: write NAME=value"
        for binding in parse_stream(StringIO(text))
        if binding.error or (binding.key is not None and binding.value is None and binding.key.isupper())
    ]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return dotenv_values(stream=StringIO(text), interpolate=False)


def _leading_blank_lines(text: str) -> int:
    """Return the number of blank lines that the parser counts as part of the statement."""
    return text[: len(text) - len(text.lstrip())].count("\n")


def _describe_problem(detail: ErrorDetails) -> str:
    """Describe a problem: name, reason, example."""
    words = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return words
    name = str(detail["loc"][0])
    if name == "TELEWARM_PROXY" and "SOCKS" in words:
        name = "TELEWARM_PROXY (or ALL_PROXY, HTTPS_PROXY)"
        return f"{name} {words}; for example TELEWARM_PROXY=http://127.0.0.1:3128"
    example = next(variable.example for variable in variables() if variable.name == name)
    words = words.replace("Input should be", "must be")
    if detail["type"] == "string_pattern_mismatch":
        words = "must have nothing but letters, digits and hyphens"
    if detail["type"].startswith("byte_size"):
        words = "must be a number of bytes, or one with KiB, MiB or GiB"
    return (
        f"{name} {words}; for example {name}={example}"
        if example
        else f"{name} {words}: make one with `{checks.GENERATE_COMMAND}`"
    )


def _misspelled_names(names: Mapping[str, str]) -> list[str]:
    known = [variable.name for variable in variables()]
    slips = []
    for name in sorted(names):
        if name.startswith(OWN_PREFIXES) and name not in known:
            meant = difflib.get_close_matches(name, known, n=1, cutoff=MIN_SIMILARITY)
            slips += [f"Unknown setting {name}. Did you mean {meant[0]}?" for meant in [meant] if meant]
    return slips
