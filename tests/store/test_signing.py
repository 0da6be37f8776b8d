"""Presigned URLs: equal to botocore's, accepted and refused by servers that we did not write."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from telewarm import clock
from telewarm.errors import StoreUnavailable, UsageError
from telewarm.models import Sha256
from telewarm.storage.config import FolderConfig, S3Config
from telewarm.storage.object_store import BlobStore
from telewarm.storage.sigv4 import MAX_EXPIRES_SECONDS, SIGNING_KEY_TTL, S3UrlSigner

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
moments = st.integers(1_577_836_800, 2_208_988_800).map(lambda second: datetime.fromtimestamp(second, UTC))


def signer(
    endpoint: str = "https://s3.example.com", *, region: str = "eu-west-1", path_style: bool = True
) -> S3UrlSigner:
    url = S3Config(
        bucket="library", endpoint=endpoint, access_key_id="", secret_access_key="", path_style=path_style
    ).url
    return S3UrlSigner(access_key_id="AKIDEXAMPLE", secret_access_key=SECRET, region=region, url=url)


def signed_by_botocore(
    url: str, *, region: str, expires: int, now: datetime, monkeypatch: pytest.MonkeyPatch, token: str | None = None
) -> str:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None))
    request = AWSRequest(method="GET", url=url)
    S3SigV4QueryAuth(Credentials("AKIDEXAMPLE", SECRET, token), "s3", region, expires=expires).add_auth(request)
    assert isinstance(request.url, str)
    return request.url


@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda key: key[0] != "/"),
    expires=st.integers(1, MAX_EXPIRES_SECONDS),
    now=moments,
    region=st.sampled_from(["auto", "us-east-1", "eu-central-1"]),
)
def test_every_url_is_the_one_that_botocore_signs(key: str, expires: int, now: datetime, region: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        unsigned = f"https://s3.example.com/library/{quote(key, safe='/~')}"
        expected = signed_by_botocore(unsigned, region=region, expires=expires, now=now, monkeypatch=patch)
    assert signer(region=region).presigned_get(key, expires=expires, now=now) == expected


def test_the_example_of_the_s3_reference_is_signed_as_printed_there() -> None:
    url = S3Config(
        bucket="examplebucket",
        endpoint="https://s3.amazonaws.com",
        access_key_id="",
        secret_access_key="",
        path_style=False,
    ).url
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    example = S3UrlSigner(access_key_id="AKIAIOSFODNN7EXAMPLE", secret_access_key=secret, region="us-east-1", url=url)
    signed = example.presigned_get("test.txt", expires=86400, now=datetime(2013, 5, 24, tzinfo=UTC))
    assert signed.startswith("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert signed.endswith("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@given(moments, st.integers(-12, 14))
def test_the_time_zone_of_now_does_not_matter(now: datetime, hours: int) -> None:
    elsewhere = now.astimezone(timezone(timedelta(hours=hours)))
    one = signer()
    assert one.presigned_get("a", expires=60, now=now) == one.presigned_get("a", expires=60, now=elsewhere)


@given(st.lists(moments, max_size=30))
def test_the_kept_key_never_changes_a_signature(times: list[datetime]) -> None:
    kept = signer()
    for now in times:
        assert kept.presigned_get("a", expires=60, now=now) == signer().presigned_get("a", expires=60, now=now)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=50).map(sorted))
def test_old_keys_are_cleaned_up_by_themselves(seconds: list[int]) -> None:
    long_lived = signer()
    for second in seconds:
        long_lived.presigned_get("a", expires=60, now=NOON + timedelta(seconds=second))
        assert 1 <= len(long_lived._keys) <= 2


def test_a_signing_key_is_made_once_a_day_and_again_after_23_hours() -> None:
    one = signer()
    midnight = NOON.replace(hour=0)
    keys = []
    for hours in (0, 22, 23, 24):
        one.presigned_get("a", expires=60, now=midnight + timedelta(hours=hours))
        keys.append(one._keys[max(one._keys)])
    assert timedelta(hours=23) == SIGNING_KEY_TTL
    assert keys[0] is keys[1]
    assert keys[1] is not keys[2]
    assert keys[1].key == keys[2].key
    assert keys[2].key != keys[3].key


@pytest.mark.parametrize("expires", [-1, 0, MAX_EXPIRES_SECONDS + 1])
def test_a_life_that_s3_would_refuse_is_refused_here(expires: int) -> None:
    with pytest.raises(UsageError, match="1 to 604800 seconds"):
        signer().presigned_get("a", expires=expires, now=NOON)


@pytest.mark.parametrize(
    ("endpoint", "path_style", "start"),
    [
        ("https://s3.example.com:443/", True, "https://s3.example.com/library/a?"),
        ("http://s3.example.com:80", True, "http://s3.example.com/library/a?"),
        ("http://127.0.0.1:9000", True, "http://127.0.0.1:9000/library/a?"),
        ("https://example.com/s3/", True, "https://example.com/s3/library/a?"),
        ("https://s3.example.com:443", False, "https://library.s3.example.com/a?"),
    ],
)
def test_the_url_is_the_endpoints_as_clients_write_it(endpoint: str, path_style: bool, start: str) -> None:  # noqa: FBT001 - a table's column
    assert signer(endpoint, path_style=path_style).presigned_get("a", expires=60, now=NOON).startswith(start)


def test_no_secret_shows_in_what_can_be_printed(rclone: S3Config) -> None:
    one = signer()
    url = one.presigned_get("a", expires=60, now=NOON)
    shown = f"{one!r} {one._keys!r} {rclone!r} {BlobStore.open(rclone)!r} {url}"
    assert SECRET not in shown
    assert rclone.secret_access_key not in shown


async def fetch(url: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as answer:
        return answer.status, await answer.read()


async def test_a_presigned_url_fetches_the_object(bucket: S3Config) -> None:
    store = BlobStore.open(bucket)
    for key in ("signed/plain.jpg", "signed/with space & ü+~%.jpg"):
        await store.put_bytes(key, b"a photo")
        url = store.presigned_get(key, expires=60, now=clock.now())
        assert url is not None
        async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as answer:
            assert (answer.status, await answer.read()) == (200, b"a photo")
            assert answer.content_type == "image/jpeg"


async def test_a_tampered_url_is_refused(bucket: S3Config) -> None:
    store = BlobStore.open(bucket)
    await store.put_bytes("signed/one.jpg", b"one")
    await store.put_bytes("signed/two.jpg", b"two")
    url = store.presigned_get("signed/one.jpg", expires=60, now=clock.now())
    assert url is not None
    last = url[-1]
    for tampered in (
        url.replace("one.jpg", "two.jpg"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
        url[:-1] + ("0" if last != "0" else "1"),
        url.split("&X-Amz-Signature")[0],
        urlsplit(url)._replace(query="").geturl(),
    ):
        status, body = await fetch(tampered)
        assert status in {400, 403}
        assert body not in {b"one", b"two"}


async def test_an_expired_url_is_refused(bucket: S3Config) -> None:
    store = BlobStore.open(bucket)
    await store.put_bytes("signed/old.jpg", b"old")
    url = store.presigned_get("signed/old.jpg", expires=60, now=clock.now() - timedelta(seconds=90))
    assert url is not None
    status, body = await fetch(url)
    assert status in {400, 403}
    assert body != b"old"


async def test_a_url_signed_with_another_secret_is_refused(bucket: S3Config) -> None:
    await BlobStore.open(bucket).put_bytes("signed/other.jpg", b"other")
    other = S3UrlSigner(access_key_id=bucket.access_key_id, secret_access_key="?", region=bucket.region, url=bucket.url)
    status, _ = await fetch(other.presigned_get("signed/other.jpg", expires=60, now=clock.now()))
    assert status == 403


async def test_a_folder_has_no_urls(tmp_path: Path) -> None:
    store = BlobStore.open(FolderConfig(root=tmp_path))
    assert store.presigned_get("a", expires=60, now=NOON) is None
    assert store.public_url("a") is None


def test_a_public_library_has_plain_urls() -> None:
    config = S3Config(
        bucket="b",
        endpoint="https://s3.example.com",
        access_key_id="a",
        secret_access_key="s",
        public_base_url="https://cdn.example.com/media/",
    )
    assert BlobStore.open(config).public_url("media/a b.jpg") == "https://cdn.example.com/media/media/a%20b.jpg"


async def test_a_server_below_a_path_is_written_to_and_read_from_with_and_without_a_signed_url(
    bucket: S3Config, tmp_path: Path
) -> None:
    """A real server checks the signature over the whole path: to it the first part is a bucket, the rest are keys."""
    below = replace(bucket, endpoint=f"{bucket.endpoint}/{bucket.bucket}/storage/v1/s3/", bucket="media")
    store, root = BlobStore.open(below), BlobStore.open(bucket)
    data = b"x" * (9 << 20)  # in several parts
    path = tmp_path / "large"
    path.write_bytes(data)

    await store.check_writable()
    await store.put_file("a b.bin", path, sha256=Sha256(sha256(data).hexdigest()), bytes=len(data))

    assert await root.size("storage/v1/s3/media/a b.bin") == len(data)
    assert b"".join([chunk async for chunk in store.stream("a b.bin")]) == data
    url = store.presigned_get("a b.bin", expires=60, now=clock.now())
    assert url is not None
    assert await fetch(url) == (200, data)


def test_a_session_token_is_signed_as_botocore_signs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "session/token+x=="
    expected = signed_by_botocore(
        "https://s3.example.com/media/a.jpg",
        region="us-east-1",
        expires=60,
        now=NOON,
        monkeypatch=monkeypatch,
        token=token,
    )
    config = S3Config(
        bucket="media",
        endpoint="https://s3.example.com",
        region="us-east-1",
        access_key_id="AKIDEXAMPLE",
        secret_access_key=SECRET,
        session_token=token,
    )

    ours = BlobStore.open(config).presigned_get("a.jpg", expires=60, now=NOON)

    assert ours is not None
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(expected).query)


@pytest.mark.parametrize(
    "wrong", [{"bucket": "media "}, {"access_key_id": "a\n"}, {"endpoint": "http://127.0.0.1:9/a b"}]
)
async def test_settings_on_which_the_storage_client_panics_are_a_plain_error(wrong: dict[str, str]) -> None:
    given = {"bucket": "media", "endpoint": "http://127.0.0.1:9", "access_key_id": "a", **wrong}
    config = S3Config(
        bucket=given["bucket"],
        endpoint=given["endpoint"],
        access_key_id=given["access_key_id"],
        secret_access_key="b",
        allow_http=True,
    )

    with pytest.raises(StoreUnavailable, match="look for characters in S3_"):
        await BlobStore.open(config, timeout_seconds=5).check_writable()
