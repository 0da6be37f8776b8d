"""Media in, out and away: a bot's library."""

from telewarm.database.pages import Filters, Page
from telewarm.library.adding import Added, LibraryLimits
from telewarm.library.collector import Collector
from telewarm.library.library import Library
from telewarm.library.names import name_of, shows_old_name

__all__ = ["Added", "Collector", "Filters", "Library", "LibraryLimits", "Page", "name_of", "shows_old_name"]
