"""Media in, out and away: a bot's library."""

from telewarm.database.pages import MediaFilters, MediaPage
from telewarm.library.adding import IngestResult, LibraryLimits
from telewarm.library.collector import BlobGarbageCollector
from telewarm.library.library import MediaLibrary
from telewarm.library.names import name_of, shows_old_name

__all__ = [
    "BlobGarbageCollector",
    "IngestResult",
    "LibraryLimits",
    "MediaFilters",
    "MediaLibrary",
    "MediaPage",
    "name_of",
    "shows_old_name",
]
