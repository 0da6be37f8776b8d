"""Choice of the settings file, and limits on one that was found in the current folder by chance."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from telewarm.errors import SettingsError

ENV_FILE_VARIABLE = "TELEWARM_ENV_FILE"
FOLDER_VARIABLES = ("TELEWARM_DATA", "TELEWARM_STORE_FOLDER")  # relative to the file that sets them
HARMLESS_VALUES = ("https://api.telegram.org", "direct", "none", "off")
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
REDIRECTING_VARIABLES = (
    "TELEGRAM_API_ROOT",
    "TELEWARM_PROXY",
    *PROXY_VARIABLES,
    *map(str.lower, PROXY_VARIABLES),
)  # URLs to which bot tokens are sent
# Files of a data folder that could be links to those of another user.
PROTECTED_PATHS = ("", "encryption.key", "postgres", "postgres/cluster")


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsFile:
    """`path` None: no file. `is_implicit`: found in the current folder, and not named by anybody."""

    path: Path | None
    is_implicit: bool = False


def choose_settings_file(
    environ: Mapping[str, str], *, named_file: Path | None, folder: Path, home: Path
) -> SettingsFile:
    """Choose the named file (`named_file` or TELEWARM_ENV_FILE), else `.env` here, else the user's own.

    Raises SettingsError for a named file that is missing, and for one in the current folder that another user owns or
    anybody can write.
    """
    path = named_file or (Path(environ[ENV_FILE_VARIABLE]).expanduser() if environ.get(ENV_FILE_VARIABLE) else None)
    if path is not None:
        if not path.is_file():
            raise SettingsError(f"{path} is no file: name another with --env-file or {ENV_FILE_VARIABLE}")
        return SettingsFile(path=path.absolute())
    if (here := folder / ".env").is_file():
        _check_file_owner(here)
        return SettingsFile(path=here.absolute(), is_implicit=True)
    own = home / ".env"
    return SettingsFile(path=own if own.is_file() else None)


def _check_file_owner(path: Path) -> None:
    status = path.stat()
    if status.st_uid not in {os.geteuid(), 0}:
        problem = "belongs to another user"
    elif status.st_mode & stat.S_IWOTH:
        problem = "can be changed by everybody"
    else:
        return
    raise SettingsError(
        f"{path.absolute()} {problem}, so its settings are not trusted: make it yours (chown, chmod o-w), name it with "
        f"--env-file or {ENV_FILE_VARIABLE}, or run this in another folder"
    )


def check_redirects(path: Path, file_values: Mapping[str, str | None], environ: Mapping[str, str]) -> None:
    """Check that a file found by chance does not redirect the tokens of existing bots.

    Raises SettingsError when it sets another Bot API server or proxy, but not the key of the bots' tokens, and no data
    folder with it. The same holds for library files and the keys of their store.
    """
    if _uses_foreign_keys(file_values, environ):
        raise SettingsError(
            f"{path} sets S3_ENDPOINT, where files would be sent to with the S3 keys of your environment. {_cure(path)}"
        )
    redirecting = [
        name for name in REDIRECTING_VARIABLES if not environ.get(name) and _is_remote(file_values.get(name))
    ]
    if redirecting and not _holds_encryption_key(path, file_values, environ):
        raise SettingsError(
            f"{path} sets {' and '.join(redirecting)}, where bot tokens would be sent to, and the tokens are from "
            f"elsewhere. {_cure(path)}"
        )


def _cure(path: Path) -> str:
    return (
        f"If the file is yours, name it: --env-file {path}, or {ENV_FILE_VARIABLE}={path}. If it came with "
        f"something that you "
        "downloaded, run this in another folder"
    )


def _uses_foreign_keys(file_values: Mapping[str, str | None], environ: Mapping[str, str]) -> bool:
    """Return whether the keys come from outside of the file."""
    keys = bool(environ.get("S3_SECRET_ACCESS_KEY"))
    return keys and not environ.get("S3_ENDPOINT") and _is_remote(file_values.get("S3_ENDPOINT"))


def _is_remote(value: str | None) -> bool:
    """Return whether a URL leads to another machine: on this one, a file alone cannot start a listener."""
    value = (value or "").strip()
    if not value or value.lower() in {*HARMLESS_VALUES, f"{HARMLESS_VALUES[0]}/"}:
        return False
    try:
        host = urlsplit(value if "://" in value else f"//{value}").hostname
        return host != "localhost" and not ip_address(host or "").is_loopback
    except ValueError:
        return True


def _holds_encryption_key(path: Path, file_values: Mapping[str, str | None], environ: Mapping[str, str]) -> bool:
    if environ.get("ENCRYPTION_KEY"):
        return False
    if file_values.get("ENCRYPTION_KEY"):
        return True
    data = file_values.get("TELEWARM_DATA")
    if environ.get("TELEWARM_DATA") or not data:
        return False
    own = path.absolute().parent.resolve()
    folder = own / Path(data).expanduser()
    return all((folder / part).resolve().is_relative_to(own) for part in PROTECTED_PATHS)


def resolve_folders(path: Path, file_values: Mapping[str, str | None]) -> dict[str, str | None]:
    """Make folders relative to the file absolute, wherever the process runs."""
    parent = path.absolute().parent
    return {
        name: str(parent / Path(value.strip()).expanduser())
        if name in FOLDER_VARIABLES and value and value.strip()
        else value
        for name, value in file_values.items()
    }
