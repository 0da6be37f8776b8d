"""Object store in a bucket behind any S3 API."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import obstore
from obstore.store import ObjectStore, S3Store

from telewarm.errors import ObjectCorrupt, ObjectMissing, StoreError, StoreUnavailable
from telewarm.storage.config import S3Config
from telewarm.storage.put_source import PutSource, etags_of
from telewarm.storage.sigv4 import S3UrlSigner
from telewarm.storage.thread_batcher import run_inline_or_in_thread

if TYPE_CHECKING:
    from obstore.store import S3Credential  # for type checkers only

PART_BYTES = 8 << 20  # bytes; larger blobs are uploaded in parts of this size
MAX_CONCURRENT_PARTS = 2  # each is held in memory
CURE_BY_CODE = {  # by the S3 error code in the response's body
    "NoSuchBucket": "there is no such bucket: make it, or correct its name",
    "InvalidAccessKeyId": "the access key id is unknown there: correct it, or the endpoint",
    "SignatureDoesNotMatch": "the signature is wrong: correct the secret access key (and the region)",
    "AuthorizationHeaderMalformed": "the region is wrong: correct it (R2 wants 'auto')",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "error sending request": "no connection: check the endpoint, the network and any proxy",
}
ACCESS_REFUSED_CURE = (
    "access is refused: check the access key id, the secret access key and their right to read and write here"
)
SERVER_FAILED_CURE = "the server failed or stopped answering: try again, and look at its status page if that lasts"


class S3Backend:
    """Signs every request with the SHA-256 of its body, so that the server refuses corrupted bytes."""

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._signer = S3UrlSigner(
            access_key_id=config.access_key_id,
            secret_access_key=config.secret_access_key,
            region=config.region,
            session_token=config.session_token,
            url=config.url,
        )
        self.objects: ObjectStore = _open_store(config)

    async def put(self, key: str, content: PutSource) -> bool:
        """Put an object, verified by its ETag or, where that is not an MD5 (SSE-KMS), by reading it back."""
        source, etags = await run_inline_or_in_thread(content.size, lambda: _verify_source(content))
        if await self._has_content(key, content, etags):
            return False
        mime = guess_type(key, strict=False)[0] or "application/octet-stream"
        result = await obstore.put_async(
            self.objects,
            key,
            source,
            attributes={"Content-Type": mime},
            use_multipart=isinstance(source, Path),
            chunk_size=PART_BYTES,
            max_concurrency=MAX_CONCURRENT_PARTS,
        )
        if not _matches(result["e_tag"], etags) and not await self._verify_by_reading(key, content):
            await obstore.delete_async(self.objects, key)
            raise ObjectCorrupt(f"{key} arrived damaged in {self._describe} and was deleted there. Send it again.")
        return True

    def presigned_get(self, key: str, *, expires: int, now: datetime) -> str:
        """Return a presigned URL."""
        return self._signer.presigned_get(key, expires=expires, now=now)

    def public_url(self, key: str) -> str | None:
        """Return the public URL, if there is a base URL."""
        base = self._config.public_base_url
        return None if base is None else f"{base.rstrip('/')}/{quote(key)}"

    def explain(self, error: Exception, key: str) -> StoreError:
        """Convert an error of obstore, whose text is searched and never repeated."""
        text = str(error)
        for mark, cure in CURE_BY_CODE.items():
            if mark in text:
                return StoreUnavailable(f"{self._describe} cannot be used: {cure}.")
        if isinstance(error, FileNotFoundError):
            return ObjectMissing(f"{key} is not in {self._describe}. Was it deleted, or is this another library?")
        refused = "403 Forbidden" in text or "401 Unauthorized" in text
        return StoreUnavailable(
            f"{self._describe} cannot be used: {ACCESS_REFUSED_CURE if refused else SERVER_FAILED_CURE}."
        )

    @property
    def _describe(self) -> str:
        return f"Bucket {self._config.bucket!r} at {self._config.url.hostname}"

    async def _has_content(self, key: str, content: PutSource, etags: frozenset[str]) -> bool:
        try:
            meta = await obstore.head_async(self.objects, key)
        except FileNotFoundError:
            return False
        if meta["size"] != content.size:
            return False
        return _matches(meta["e_tag"], etags) or await self._verify_by_reading(key, content)

    async def _verify_by_reading(self, key: str, content: PutSource) -> bool:
        result = await obstore.get_async(self.objects, key)
        digest = hashlib.sha256()
        async for chunk in result.stream(min_chunk_size=1 << 18):
            digest.update(chunk)
        return digest.hexdigest() == content.sha256


def _open_store(config: S3Config) -> S3Store:
    """Open the bucket. obstore also reads AWS_* from the environment, so everything relevant is set here."""

    def credential() -> S3Credential:
        return {
            "access_key_id": config.access_key_id,
            "secret_access_key": config.secret_access_key,
            "token": config.session_token,
            "expires_at": None,
        }

    url = config.url
    host_only = url.path.removesuffix(f"/{config.bucket}") if config.path_style else url.path
    return S3Store(
        config.bucket,
        config={
            "aws_endpoint_url_s3": url._replace(path=host_only).geturl(),
            "region": config.region,
            "virtual_hosted_style_request": not config.path_style,
            "skip_signature": False,
            "unsigned_payload": False,
            "disable_bulk_delete": True,  # not every S3 server has it
        },
        credential_provider=credential,
        client_options={
            "allow_http": config.allow_http,
            "connect_timeout": "5s",
            "read_timeout": "60s",  # also limits the upload of one part: 8 MiB a minute
            "timeout": "1h",  # for a whole download
        },
        retry_config={
            "max_retries": 2,
            "retry_timeout": timedelta(seconds=30),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )


def _verify_source(content: PutSource) -> tuple[Path | bytes, frozenset[str]]:
    """Return the verified source (small files in memory), and the ETags that prove its arrival. Blocks."""
    source = content.read() if content.size <= PART_BYTES else content.verify()
    return source, etags_of(source, part_bytes=PART_BYTES)


def _matches(etag: str | None, etags: frozenset[str]) -> bool:
    return etag is not None and etag.strip('"') in etags
