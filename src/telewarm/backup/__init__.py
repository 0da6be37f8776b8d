"""Backups: the database, the encryption key and, if wanted, the media, in one archive that any PostgreSQL restores."""

from telewarm.backup.restoring import RestoreResult, RestoreTarget, restore
from telewarm.backup.saving import BackupResult, BackupService, save
from telewarm.backup.scratch import temporary_folder

__all__ = ["BackupResult", "BackupService", "RestoreResult", "RestoreTarget", "restore", "save", "temporary_folder"]
