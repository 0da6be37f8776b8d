"""Configuration of the object store: a folder, or a bucket behind any S3 API (AWS, Cloudflare R2, MinIO...)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderConfig:
    """A folder. `root` is created when it does not exist."""

    root: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Config:
    """A bucket. `endpoint`: URL without the bucket, such as `https://<account>.r2.cloudflarestorage.com`."""

    bucket: str
    endpoint: str
    region: str = "auto"
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)  # of temporary credentials
    public_base_url: str | None = None  # URL at which the bucket can be read without a signature
    allow_http: bool = False
    path_style: bool = True  # https://host/bucket/key; else https://bucket.host/key

    @property
    def url(self) -> SplitResult:
        """URL to which keys are appended, without a closing slash and without the scheme's own port."""
        scheme, host, path, _, _ = urlsplit(self.endpoint.rstrip("/"))
        host = host.removesuffix(":443" if scheme == "https" else ":80")
        if self.path_style:
            return SplitResult(scheme, host, f"{path}/{self.bucket}", "", "")
        return SplitResult(scheme, f"{self.bucket}.{host}", path, "", "")
