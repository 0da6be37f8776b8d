"""Probe of media files: type and metadata by their bytes, Telegram's rules, thumbnails.

The only user of media decoders.
"""

from telewarm.probe.file_names import filename_for
from telewarm.probe.probe import Look, Probe
from telewarm.probe.telegram_rules import (
    check,
    check_size,
    choose_kind,
    is_measured,
    natural_kind,
    size_rule,
    wants_thumbnail,
)
from telewarm.probe.words import unreadable

__all__ = [
    "Look",
    "Probe",
    "check",
    "check_size",
    "choose_kind",
    "filename_for",
    "is_measured",
    "natural_kind",
    "size_rule",
    "unreadable",
    "wants_thumbnail",
]
