"""Backups: the database, the encryption key and, if wanted, the media, in one archive that any PostgreSQL restores."""

from telewarm.backup.restoring import Restored, Target, restore
from telewarm.backup.saving import Backups, Saved, save
from telewarm.backup.scratch import scratch

__all__ = ["Backups", "Restored", "Saved", "Target", "restore", "save", "scratch"]
