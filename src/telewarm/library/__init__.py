"""Media in, out and away: a bot's library."""

from telewarm.database.pages import Filters, Page
from telewarm.library.adding import Added, LibraryLimits
from telewarm.library.collector import Collector
from telewarm.library.library import Library

__all__ = ["Added", "Collector", "Filters", "Library", "LibraryLimits", "Page"]
