import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.errors import UsageError
from telewarm.models import Sha256
from telewarm.storage.keys import blob_key, thumbnail_key

hashes = st.text("0123456789abcdef", min_size=64, max_size=64).map(Sha256)
exts = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=16)


def test_keys_are_spread_over_256_folders() -> None:
    sha256 = Sha256("abcd" + "0" * 60)
    assert blob_key(sha256, "jpg") == f"media/ab/{sha256}.jpg"
    assert thumbnail_key(sha256) == f"thumbnails/ab/{sha256}.jpg"


@given(hashes, exts)
def test_keys_are_safe_as_paths_and_in_urls(sha256: Sha256, ext: str) -> None:
    assert set(blob_key(sha256, ext)) <= set("abcdefghijklmnopqrstuvwxyz0123456789/.")
    assert ".." not in blob_key(sha256, ext)


@given(hashes, hashes, exts)
def test_other_bytes_have_another_key(one: Sha256, other: Sha256, ext: str) -> None:
    assert (blob_key(one, ext) == blob_key(other, ext)) == (one == other)


@given(hashes, st.text().filter(lambda ext: not (ext.isascii() and ext.isalnum())))
def test_an_extension_that_could_leave_the_folder_is_refused(sha256: Sha256, ext: str) -> None:
    with pytest.raises(UsageError, match="extension"):
        blob_key(sha256, ext)


@given(st.text().filter(lambda name: len(name) != 64))
def test_a_name_that_is_no_hash_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="64 lower-case hex digits"):
        thumbnail_key(Sha256(name))
