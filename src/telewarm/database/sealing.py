"""Bot tokens at rest: AES-256-GCM, bound to the bot they belong to."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from telewarm.errors import SettingsError

NONCE_BYTES = 12


class Seal:
    """Seals with one key of 32 bytes. A sealed token: nonce, ciphertext, tag; the bot's Telegram id is bound in."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, token: str, *, telegram_id: int) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, token.encode(), str(telegram_id).encode())

    def open(self, sealed: bytes, *, telegram_id: int) -> str:
        """Raises SettingsError when the key is not the one that sealed it."""
        nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, str(telegram_id).encode()).decode()
        except (InvalidTag, ValueError):  # ValueError: too short to have a nonce
            raise SettingsError(
                f"ENCRYPTION_KEY does not open the token of bot {telegram_id}: "
                "set the key that sealed it, or give the bot its token anew"
            ) from None
