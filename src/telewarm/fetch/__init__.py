"""The door to the web: files by URL, from public addresses alone (docs/decisions/0012)."""

from telewarm.fetch.fetcher import Download, Fetcher
from telewarm.fetch.urls import UrlPolicy

__all__ = ["Download", "Fetcher", "UrlPolicy"]
