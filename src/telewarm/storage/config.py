"""Where a library's blobs are kept: a folder, or a bucket behind any S3 API (AWS, Cloudflare R2, MinIO...)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderConfig:
    """`root` is made when it does not exist."""

    root: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Config:
    """`endpoint` is a URL without the bucket, such as `https://<account>.r2.cloudflarestorage.com`."""

    bucket: str
    endpoint: str
    region: str = "auto"
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)  # of temporary credentials
    public_base_url: str | None = None  # where the bucket can be read without a signature
    allow_http: bool = False
    path_style: bool = True  # https://host/bucket/key; else https://bucket.host/key

    @property
    def url(self) -> SplitResult:
        """What a key is appended to, without a closing slash; a scheme's own port is left out, as clients do."""
        scheme, host, path, _, _ = urlsplit(self.endpoint.rstrip("/"))
        host = host.removesuffix(":443" if scheme == "https" else ":80")
        if self.path_style:
            return SplitResult(scheme, host, f"{path}/{self.bucket}", "", "")
        return SplitResult(scheme, f"{self.bucket}.{host}", path, "", "")
