"""Tokens at rest open with the right key for the right bot, and with nothing else; the key can be changed."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from telewarm.database import bots
from telewarm.database.connection import Pool
from telewarm.database.token_encryption import (
    HEADER_BYTES,
    VERSION_MARKER,
    DecryptionFailed,
    TokenCipher,
    find_cipher,
    key_id_of,
    reencrypt,
)
from telewarm.errors import SettingsError
from tests.fixtures.rows import SEAL, make_bot
from tests.fixtures.sandbox import FIRST_BOT
from tests.fixtures.sandbox import token as token_of

TOKEN = "123456789:AAEsecretsecretsecretsecretsecret12"
KEY = bytes(32)


def sealed_before_keys_had_ids(token: str, *, telegram_id: int, key: bytes = KEY, nonce: bytes | None = None) -> bytes:
    nonce = nonce or os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, token.encode(), str(telegram_id).encode())


@given(st.text(), st.integers(min_value=0, max_value=1 << 60))
def test_what_is_sealed_opens_again_and_never_shows_the_token(token: str, telegram_id: int) -> None:
    seal = TokenCipher(KEY)
    sealed = seal.encrypt(token, telegram_id=telegram_id)

    assert seal.decrypt(sealed, telegram_id=telegram_id) == token
    assert len(token.encode()) < 4 or token.encode() not in sealed


def test_the_same_token_is_sealed_differently_each_time() -> None:
    seal = TokenCipher(KEY)

    assert seal.encrypt(TOKEN, telegram_id=1) != seal.encrypt(TOKEN, telegram_id=1)


@pytest.mark.parametrize(
    "nonce", [None, VERSION_MARKER + bytes(9), VERSION_MARKER + TokenCipher(KEY).key_id + bytes(5)]
)
def test_what_was_sealed_before_keys_had_ids_still_opens_whatever_its_nonce(nonce: bytes | None) -> None:
    sealed = sealed_before_keys_had_ids(TOKEN, telegram_id=1, nonce=nonce)

    assert TokenCipher(KEY).decrypt(sealed, telegram_id=1) == TOKEN


def test_another_key_is_told_by_its_id_with_the_cure_and_without_any_secret() -> None:
    key = os.urandom(32)
    sealed = TokenCipher(KEY).encrypt(TOKEN, telegram_id=1)

    with pytest.raises(DecryptionFailed, match=r"rotate-key.*set the key that sealed it") as caught:
        TokenCipher(key).decrypt(sealed, telegram_id=1)

    said = str(caught.value)
    assert key_id_of(sealed) == TokenCipher(KEY).key_id != TokenCipher(key).key_id
    assert TokenCipher(KEY).key_id.hex() in said
    assert TokenCipher(key).key_id.hex() in said
    assert not any(secret in said for secret in (TOKEN, key.hex(), KEY.hex()))
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_another_key_of_before_there_were_ids_is_refused_as_that_or_damage() -> None:
    with pytest.raises(DecryptionFailed, match="another key, or it is damaged; set the key that sealed it"):
        TokenCipher(KEY).decrypt(sealed_before_keys_had_ids(TOKEN, telegram_id=1, key=os.urandom(32)), telegram_id=1)


def test_damage_and_another_bots_token_are_not_blamed_on_the_key() -> None:
    seal = TokenCipher(KEY)
    sealed = seal.encrypt(TOKEN, telegram_id=1)

    for wrong, telegram_id in ((sealed, 2), (sealed[:-1], 1), (sealed[:HEADER_BYTES], 1)):
        with pytest.raises(SettingsError, match=r"damaged or another bot's; .*give the bot its token again") as caught:
            seal.decrypt(wrong, telegram_id=telegram_id)
        assert not isinstance(caught.value, DecryptionFailed)
        assert TOKEN not in str(caught.value)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_sealed_token_that_was_tampered_with_is_refused(place: int, change: int) -> None:
    """Its key id and its mark too."""
    sealed = bytearray(TokenCipher(KEY).encrypt(TOKEN, telegram_id=1))
    sealed[place % len(sealed)] ^= change

    with pytest.raises(SettingsError):
        TokenCipher(KEY).decrypt(bytes(sealed), telegram_id=1)


@pytest.mark.parametrize(
    "sealed", [b"", b"short", bytes(12), VERSION_MARKER, VERSION_MARKER + bytes(4), VERSION_MARKER + bytes(20)]
)
def test_what_is_too_short_to_be_sealed_is_refused(sealed: bytes) -> None:
    with pytest.raises(SettingsError):
        TokenCipher(KEY).decrypt(sealed, telegram_id=1)


async def test_resealing_changes_every_token_to_the_new_key_and_twice_is_once(pool: Pool) -> None:
    new = TokenCipher(os.urandom(32))
    made = [await make_bot(pool, number) for number in range(3)]
    await pool.execute(
        "UPDATE bot SET token_sealed = $2 WHERE id = $1",
        made[0].id,
        sealed_before_keys_had_ids(token_of(0), telegram_id=FIRST_BOT),
    )
    async with pool.acquire() as connection:
        assert await find_cipher(connection, new, SEAL) is SEAL
        for expected in (3, 0):
            async with connection.transaction():
                assert await reencrypt(connection, SEAL, new) == expected
        assert await find_cipher(connection, SEAL, new) is new

    assert [(await bots.by_id(pool, new, bot.id)).token for bot in made] == [bot.token for bot in made]
    with pytest.raises(DecryptionFailed, match="set the new key and start this process again"):
        await bots.by_id(pool, SEAL, made[0].id)


async def test_a_token_that_no_key_opens_stops_the_resealing_and_names_its_bot(pool: Pool) -> None:
    first, second = [await make_bot(pool, number) for number in range(2)]
    await pool.execute("UPDATE bot SET token_sealed = 'nonsense' WHERE id = $1", second.id)

    async with pool.acquire() as connection:
        with pytest.raises(SettingsError, match=str(second.telegram_id)):
            async with connection.transaction():
                await reencrypt(connection, SEAL, TokenCipher(os.urandom(32)))
        assert await find_cipher(connection, SEAL) is None

    assert (await bots.by_id(pool, SEAL, first.id)).token == first.token
