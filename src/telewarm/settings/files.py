"""Which file settings are read from, and how far one that merely lay in the current folder is trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from telewarm.errors import SettingsError

NAMED_BY = "TELEWARM_ENV_FILE"
FOLDERS = ("TELEWARM_DATA", "TELEWARM_STORE_FOLDER")  # in a file they are relative to it
HARMLESS = ("https://api.telegram.org", "direct", "none", "off")
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
REDIRECTS = ("TELEGRAM_API_ROOT", "TELEWARM_PROXY", *PROXIES, *map(str.lower, PROXIES))  # where bot tokens are sent to
# Of a data folder what could be a link to somebody else's.
HELD = ("", "encryption.key", "postgres", "postgres/cluster")


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsFile:
    """`path` None: there is none. `found`: nobody named it, it is the one of the current folder."""

    path: Path | None
    found: bool = False


def choose(environ: Mapping[str, str], *, named: Path | None, folder: Path, home: Path) -> SettingsFile:
    """The one that was named (`named`, else TELEWARM_ENV_FILE), else `.env` in the current folder, else the user's own.

    Raises SettingsError for one that was named and is not there, and for one of the current folder that is another
    user's, or that anybody can write.
    """
    path = named or (Path(environ[NAMED_BY]).expanduser() if environ.get(NAMED_BY) else None)
    if path is not None:
        if not path.is_file():
            raise SettingsError(f"{path} is no file: name another with --env-file or {NAMED_BY}")
        return SettingsFile(path=path.absolute())
    if (here := folder / ".env").is_file():
        _demand_own(here)
        return SettingsFile(path=here.absolute(), found=True)
    own = home / ".env"
    return SettingsFile(path=own if own.is_file() else None)


def _demand_own(path: Path) -> None:
    status = path.stat()
    if status.st_uid not in {os.geteuid(), 0}:
        problem = "belongs to another user"
    elif status.st_mode & stat.S_IWOTH:
        problem = "can be changed by everybody"
    else:
        return
    raise SettingsError(
        f"{path.absolute()} {problem}, so its settings are not trusted: make it yours (chown, chmod o-w), name it with "
        f"--env-file or {NAMED_BY}, or run this in another folder"
    )


def refuse_redirects(path: Path, written: Mapping[str, str | None], environ: Mapping[str, str]) -> None:
    """Raises SettingsError when a file that merely lay there would send the tokens of bots somewhere else, and these
    bots are not its own: the key of their tokens is neither in it nor in a data folder beside it. So it does for files
    of the library, when the keys of their store are not its own.
    """
    if _takes_files_away(written, environ):
        raise SettingsError(
            f"{path} sets S3_ENDPOINT, where files would be sent to with the S3 keys of your environment. {_cure(path)}"
        )
    redirecting = [name for name in REDIRECTS if not environ.get(name) and _leads_away(written.get(name))]
    if redirecting and not _holds_the_key(path, written, environ):
        raise SettingsError(
            f"{path} sets {' and '.join(redirecting)}, where bot tokens would be sent to, and the tokens are from "
            f"elsewhere. {_cure(path)}"
        )


def _cure(path: Path) -> str:
    return (
        f"If the file is yours, name it: --env-file {path}, or {NAMED_BY}={path}. If it came with something that you "
        "downloaded, run this in another folder"
    )


def _takes_files_away(written: Mapping[str, str | None], environ: Mapping[str, str]) -> bool:
    """Whether the keys are not the file's own."""
    keys = bool(environ.get("S3_SECRET_ACCESS_KEY"))
    return keys and not environ.get("S3_ENDPOINT") and _leads_away(written.get("S3_ENDPOINT"))


def _leads_away(value: str | None) -> bool:
    """To another machine than this one, on which a file alone has nobody who listens."""
    value = (value or "").strip()
    if not value or value.lower() in {*HARMLESS, f"{HARMLESS[0]}/"}:
        return False
    try:
        host = urlsplit(value if "://" in value else f"//{value}").hostname
        return host != "localhost" and not ip_address(host or "").is_loopback
    except ValueError:
        return True


def _holds_the_key(path: Path, written: Mapping[str, str | None], environ: Mapping[str, str]) -> bool:
    if environ.get("ENCRYPTION_KEY"):
        return False
    if written.get("ENCRYPTION_KEY"):
        return True
    data = written.get("TELEWARM_DATA")
    if environ.get("TELEWARM_DATA") or not data:
        return False
    own = path.absolute().parent.resolve()
    folder = own / Path(data).expanduser()
    return all((folder / part).resolve().is_relative_to(own) for part in HELD)


def beside(path: Path, written: Mapping[str, str | None]) -> dict[str, str | None]:
    """With folders that are relative to the file, wherever the process runs."""
    parent = path.absolute().parent
    return {
        name: str(parent / Path(value.strip()).expanduser()) if name in FOLDERS and value and value.strip() else value
        for name, value in written.items()
    }
