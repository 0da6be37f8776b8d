"""An archive that somebody made by hand writes nowhere but into our tables and our store, and fills no memory."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from telewarm.database.migrate import newest_revision
from telewarm.errors import BackupError
from tests.backup.test_backup import Place, contents, opened, place

__all__ = ["place"]

EVIL = b"evil"
SHA256 = hashlib.sha256(EVIL).hexdigest()
BLOB = "sha256", "bytes", "mime", "ext", "storage_key", "thumbnail_key"
GOOD_KEY = f"media/{SHA256[:2]}/{SHA256}.jpg"


def row(key: str, thumbnail: str = "\\N") -> bytes:
    return f"{SHA256}\t4\timage/jpeg\tjpg\t{key}\t{thumbnail}\n".encode()


def forged(members: dict[str, bytes], **said: Any) -> bytes:  # noqa: ANN401 - of the manifest
    """An archive whose checksums are right."""
    manifest = {
        "telewarm": "0.1.0",
        "revision": newest_revision(),
        "created_at": "2031-01-01T00:00:00+00:00",
        "tables": {"blob": BLOB},
        "identities": {},
        "key": False,
        "media": True,
        "format": "telewarm-backup",
        "version": 1,
    }
    whole = {"manifest.json": json.dumps(manifest | said).encode(), **members}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in whole.items()}
    whole["checksums.json"] = json.dumps({"sha256": sums, "missing": []}).encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in whole.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return file.getvalue()


async def test_what_is_forged_but_harmless_is_restored(place: Place) -> None:
    """Or the tests below would show nothing."""
    archive = forged({"tables/blob/000001": row(GOOD_KEY), f"media/{GOOD_KEY}": EVIL})
    assert (await place.take_from(io.BytesIO(archive))).objects == 1
    assert (place.data / "media" / GOOD_KEY).read_bytes() == EVIL


@pytest.mark.parametrize(
    ("key", "thumbnail"),
    [
        ("../../evil", "\\N"),
        ("/tmp/telewarm-evil", "\\N"),  # noqa: S108
        (f"media/{SHA256[:2]}/../../../{SHA256}.jpg", "\\N"),
        (f"media/{SHA256[:2]}/{SHA256}.jpg/../../../../evil", "\\N"),
        (GOOD_KEY, "../../evil"),
        (GOOD_KEY, f"thumbnails/{SHA256[:2]}/..\\\\..\\\\{SHA256}.jpg"),
        (GOOD_KEY, GOOD_KEY),
    ],
)
async def test_an_object_is_written_where_its_hash_says_and_nowhere_else(
    place: Place, tmp_path: Path, key: str, thumbnail: str
) -> None:
    there = files_of(tmp_path)
    named = thumbnail if key == GOOD_KEY else key
    archive = forged({"tables/blob/000001": row(key, thumbnail), f"media/{named}": EVIL})
    with pytest.raises(BackupError, match="which Telewarm never does"):
        await place.take_from(io.BytesIO(archive))
    assert files_of(tmp_path) == there
    assert not Path("/tmp/telewarm-evil").exists()  # noqa: ASYNC240, S108
    assert await contents(place.url) == {}


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_an_orphan_is_no_way_to_delete_a_file(place: Place) -> None:
    rows = f"{SHA256}\t../../encryption.key\n".encode()
    archive = forged({"tables/blob_tombstone/000001": rows}, tables={"blob_tombstone": ["sha256", "storage_key"]})
    with pytest.raises(BackupError, match="which Telewarm never does"):
        await place.take_from(io.BytesIO(archive))


@pytest.mark.parametrize("table", ["pg_authid", "pg_proc", "customers", "lease", "pgqueuer"])
async def test_no_tables_but_ours_are_filled_or_numbered(place: Place, table: str) -> None:
    archive = forged({f"tables/{table}/000001": b"1\n"}, tables={table: ["oid"]})
    with pytest.raises(BackupError, match="no table of Telewarm's"):
        await place.take_from(io.BytesIO(archive))
    with pytest.raises(BackupError, match="no table of Telewarm's"):
        await place.take_from(io.BytesIO(forged({}, identities={f"{table}.id": 1})))


def symlink(header: tarfile.TarInfo) -> None:
    header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"


def hard_link(header: tarfile.TarInfo) -> None:
    header.type, header.linkname = tarfile.LNKTYPE, "encryption.key"


def device(header: tarfile.TarInfo) -> None:
    header.type = tarfile.CHRTYPE


def sparse(header: tarfile.TarInfo) -> None:
    header.type, header.size = tarfile.GNUTYPE_SPARSE, 1 << 50


def attributes(header: tarfile.TarInfo) -> None:
    """Whose content a tar program takes into memory whole."""
    header.type, header.size = tarfile.XHDTYPE, 1 << 40


def long_name(header: tarfile.TarInfo) -> None:
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 40


def huge(header: tarfile.TarInfo) -> None:
    header.size = 1 << 60


def twice(header: tarfile.TarInfo) -> None:
    header.name = "manifest.json"


@pytest.mark.parametrize("made", [symlink, hard_link, device, sparse, attributes, long_name, huge, twice])
async def test_members_that_telewarm_never_writes_are_refused_before_they_are_read(
    place: Place, made: Callable[[tarfile.TarInfo], None]
) -> None:
    archive = forged({"tables/blob/000001": row(GOOD_KEY)})
    at = archive.index(b"tables/blob/000001")
    header = tarfile.TarInfo(f"media/{GOOD_KEY}")
    made(header)
    hostile = archive[:at] + header.tobuf(tarfile.GNU_FORMAT) + archive[at:]
    with pytest.raises(BackupError, match=r"damaged|does not know"):
        await place.take_from(io.BytesIO(hostile))
    assert await contents(place.url) == {}
    assert files_of(place.data) == []


async def test_what_a_killed_restore_left_behind_goes_with_the_next(place: Place) -> None:
    left = place.data / "restoring" / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "object").write_bytes(EVIL)
    await place.take_from(io.BytesIO(forged({"tables/blob/000001": row(GOOD_KEY), f"media/{GOOD_KEY}": EVIL})))
    assert files_of(place.data) == [place.data / "media" / GOOD_KEY]


async def test_an_object_of_an_s3_store_is_held_to_its_key_too(place: Place, rclone: Any) -> None:  # noqa: ANN401
    from dataclasses import replace

    async with opened(rclone) as bucket:
        archive = forged({"tables/blob/000001": row("../other-bucket/evil"), "media/../other-bucket/evil": EVIL})
        with pytest.raises(BackupError, match="which Telewarm never does"):
            await replace(place, store=bucket).take_from(io.BytesIO(archive))
