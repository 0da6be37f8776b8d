"""Fetches files by URL, from public addresses only (docs/decisions/0012)."""

from telewarm.fetch.fetcher import Download, Fetcher
from telewarm.fetch.urls import UrlPolicy

__all__ = ["Download", "Fetcher", "UrlPolicy"]
