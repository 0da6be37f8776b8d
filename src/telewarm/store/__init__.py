"""The door to object storage: a library's blobs in a folder or a bucket, and the hot ones on local disk."""

from telewarm.store.config import FolderConfig, S3Config
from telewarm.store.content import FileFingerprint
from telewarm.store.incoming import IncomingFile
from telewarm.store.keys import blob_key, thumbnail_key
from telewarm.store.objects import BlobStore
from telewarm.store.reader import BlobReader, BlobSource
from telewarm.store.spool import BlobCache, DiskUsage

__all__ = [
    "BlobCache",
    "BlobReader",
    "BlobSource",
    "BlobStore",
    "DiskUsage",
    "FileFingerprint",
    "FolderConfig",
    "IncomingFile",
    "S3Config",
    "blob_key",
    "thumbnail_key",
]
