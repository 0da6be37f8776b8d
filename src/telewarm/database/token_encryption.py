"""Encryption of bot tokens: AES-256-GCM, bound to the bot they belong to."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from contextlib import suppress

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from telewarm.database.connection import Connection
from telewarm.errors import SettingsError

log = structlog.get_logger(__name__)

NONCE_BYTES = 12
VERSION_MARKER = b"tw1"  # before the key's id; what was sealed before there were ids has neither
KEY_ID_BYTES = 4
HEADER_BYTES = len(VERSION_MARKER) + KEY_ID_BYTES
ADVISORY_LOCK_KEY = 7_316_582_394_107_543  # any number, as long as nothing else in the database locks it


class DecryptionFailed(SettingsError):
    """The token was encrypted with another or an unknown key."""


class TokenCipher:
    """Cipher with one key of 32 bytes.

    An encrypted token: mark, key id, nonce, ciphertext, tag; bound to the bot's Telegram id. `key_id`: identifies the
    key without revealing it.
    """

    def __init__(self, key: bytes) -> None:
        self._set_key(key)

    def _set_key(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.key_id = hashlib.sha256(b"telewarm key id\0" + key).digest()[:KEY_ID_BYTES]

    def encrypt(self, token: str, *, telegram_id: int) -> bytes:
        """Encrypt a token."""
        nonce, head = os.urandom(NONCE_BYTES), VERSION_MARKER + self.key_id
        return head + nonce + self._cipher.encrypt(nonce, token.encode(), _associated_data(head, telegram_id))

    def decrypt(self, sealed: bytes, *, telegram_id: int) -> str:
        """Decrypt a token. Raises DecryptionFailed for another key, SettingsError for a damaged or foreign token."""
        named = key_id_of(sealed)
        for head in (
            (0,) if named is None else (HEADER_BYTES, 0)
        ):  # 0 too: an old one's nonce may begin as our mark by chance
            with suppress(InvalidTag, ValueError):  # ValueError: too short to have a nonce
                return self._decrypt(sealed, head, telegram_id)
        raise self._decryption_error(named, telegram_id)

    def has_key_id_of(self, sealed: bytes) -> bool:
        """Return whether the token names this key."""
        named = key_id_of(sealed)
        return named is not None and hmac.compare_digest(named, self.key_id)

    def _decrypt(self, sealed: bytes, header_bytes: int, telegram_id: int) -> str:
        """Decrypt. `header_bytes`: bytes before the nonce."""
        begin = header_bytes + NONCE_BYTES
        opened = self._cipher.decrypt(
            sealed[header_bytes:begin], sealed[begin:], _associated_data(sealed[:header_bytes], telegram_id)
        )
        return opened.decode()

    def _decryption_error(self, sealed_key_id: bytes | None, telegram_id: int) -> SettingsError:
        again = "or give the bot its token again"
        does_not = f"ENCRYPTION_KEY does not open the token of bot {telegram_id}"
        if sealed_key_id is None:
            return DecryptionFailed(
                f"{does_not}: it was sealed with another key, or it is damaged; set the key that sealed it, {again}"
            )
        if sealed_key_id == self.key_id:
            return SettingsError(
                f"{does_not}, though the key is the one that sealed it: what the database holds is damaged or another "
                f"bot's; restore the row, {again} with PUT /api/admin/bots/<slug>/token"
            )
        return DecryptionFailed(
            f"{does_not}: it was sealed with the key {sealed_key_id.hex()}, and this process has the key "
            f"{self.key_id.hex()}. "
            "After `telewarm rotate-key`, set the new key and start this process again; if that was interrupted, run "
            f"it again; else set the key that sealed it, {again}"
        )


class RotatingTokenCipher(TokenCipher):
    """Cipher of a process that continues while `telewarm rotate-key` runs.

    `current_key` reads the present key; None: it came from the environment and cannot change before a restart. A token
    that this process has decrypted before stays usable until then.
    """

    def __init__(self, key: bytes, current_key: Callable[[], bytes] | None) -> None:
        super().__init__(key)
        self._current_key = current_key
        self._decrypted: dict[int, str] = {}  # Telegram id → token

    def encrypt(self, token: str, *, telegram_id: int) -> bytes:
        """Encrypt a token with the present key."""
        self._reload_key()
        return super().encrypt(token, telegram_id=telegram_id)

    def decrypt(self, sealed: bytes, *, telegram_id: int) -> str:
        """Decrypt a token, after a rotation with the new key."""
        try:
            token = super().decrypt(sealed, telegram_id=telegram_id)
        except DecryptionFailed:
            token = self._decrypt_after_rotation(sealed, telegram_id)
        self._decrypted[telegram_id] = token
        return token

    def _decrypt_after_rotation(self, sealed: bytes, telegram_id: int) -> str:
        if self._reload_key():
            with suppress(DecryptionFailed):
                return super().decrypt(sealed, telegram_id=telegram_id)
        known = self._decrypted.get(telegram_id)
        if known is None:
            return super().decrypt(sealed, telegram_id=telegram_id)  # raises DecryptionFailed, which names both keys
        log.warning("encryption_key_outdated", telegram_id=telegram_id, fix="restart this process with the new key")
        return known

    def _reload_key(self) -> bool:
        """Read the key. Returns whether it has changed."""
        if self._current_key is None:
            return False
        before = self.key_id
        self._set_key(self._current_key())
        return self.key_id != before


def _associated_data(header: bytes, telegram_id: int) -> bytes:
    """Return what an encrypted token is bound to, besides the key."""
    return header + str(telegram_id).encode()


def key_id_of(sealed: bytes) -> bytes | None:
    """Return the id of the key; None: encrypted before keys had ids."""
    return (
        sealed[len(VERSION_MARKER) : HEADER_BYTES]
        if sealed.startswith(VERSION_MARKER) and len(sealed) >= HEADER_BYTES
        else None
    )


async def reencrypt(connection: Connection, old: TokenCipher, new: TokenCipher) -> int:
    """Encrypt every bot's token with another key. Returns how many were changed.

    In the caller's transaction, for which new bots wait. Raises SettingsError for a token that neither key decrypts.
    """
    await connection.execute("LOCK TABLE bot IN SHARE ROW EXCLUSIVE MODE")
    rows = await connection.fetch("SELECT id, telegram_id, token_sealed FROM bot ORDER BY id")
    changed = []
    for row in rows:
        sealed, telegram_id = row["token_sealed"], row["telegram_id"]
        if new.has_key_id_of(sealed):
            new.decrypt(sealed, telegram_id=telegram_id)
        else:
            token = old.decrypt(sealed, telegram_id=telegram_id)
            changed.append((row["id"], new.encrypt(token, telegram_id=telegram_id)))
    await connection.executemany("UPDATE bot SET token_sealed = $2 WHERE id = $1", changed)
    return len(changed)


async def find_cipher(connection: Connection, *seals: TokenCipher) -> TokenCipher | None:
    """Return the first key that decrypts every bot's token; None: none does."""
    rows = await connection.fetch("SELECT telegram_id, token_sealed FROM bot")
    return next((seal for seal in seals if all(_can_decrypt(seal, *row) for row in rows)), None)


def _can_decrypt(cipher: TokenCipher, telegram_id: int, sealed: bytes) -> bool:
    try:
        cipher.decrypt(sealed, telegram_id=telegram_id)
    except SettingsError:
        return False
    return True


async def lock_rotation(connection: Connection) -> bool:
    """Lock the rotation of the key until the connection ends. Returns False when another process has the lock."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", ADVISORY_LOCK_KEY))
