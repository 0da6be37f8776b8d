"""The door to object storage: a library's blobs in a folder or a bucket, and the hot ones on local disk."""

from telewarm.store.config import FolderConfig, S3Config
from telewarm.store.content import Seal
from telewarm.store.incoming import Incoming
from telewarm.store.keys import blob_key, thumbnail_key
from telewarm.store.objects import Store
from telewarm.store.reader import Reader, Source
from telewarm.store.spool import Disk, Spool

__all__ = [
    "Disk",
    "FolderConfig",
    "Incoming",
    "Reader",
    "S3Config",
    "Seal",
    "Source",
    "Spool",
    "Store",
    "blob_key",
    "thumbnail_key",
]
