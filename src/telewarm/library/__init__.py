"""Media in, out and away: a bot's library."""

from telewarm.library.library import CHUNK, Added, Library, LibraryLimits

__all__ = ["CHUNK", "Added", "Library", "LibraryLimits"]
