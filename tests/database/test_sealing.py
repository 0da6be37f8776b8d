"""Tokens at rest open with the right key for the right bot, and with nothing else."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.database.sealing import Seal
from telewarm.errors import SettingsError

TOKEN = "123456789:AAEsecretsecretsecretsecretsecret12"


@given(st.text(), st.integers(min_value=0, max_value=1 << 60))
def test_what_is_sealed_opens_again_and_never_shows_the_token(token: str, telegram_id: int) -> None:
    seal = Seal(bytes(32))
    sealed = seal.close(token, telegram_id=telegram_id)

    assert seal.open(sealed, telegram_id=telegram_id) == token
    assert len(token.encode()) < 4 or token.encode() not in sealed


def test_the_same_token_is_sealed_differently_each_time() -> None:
    seal = Seal(bytes(32))

    assert seal.close(TOKEN, telegram_id=1) != seal.close(TOKEN, telegram_id=1)


@pytest.mark.parametrize(
    ("key", "telegram_id"), [(os.urandom(32), 1), (bytes(32), 2)], ids=["another key", "another bot"]
)
def test_another_key_or_another_bot_is_refused_with_the_cure_and_without_the_token(
    key: bytes, telegram_id: int
) -> None:
    sealed = Seal(bytes(32)).close(TOKEN, telegram_id=1)

    with pytest.raises(SettingsError, match="set the key that sealed it") as caught:
        Seal(key).open(sealed, telegram_id=telegram_id)

    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_sealed_token_that_was_tampered_with_is_refused(place: int, change: int) -> None:
    sealed = bytearray(Seal(bytes(32)).close(TOKEN, telegram_id=1))
    sealed[place % len(sealed)] ^= change

    with pytest.raises(SettingsError):
        Seal(bytes(32)).open(bytes(sealed), telegram_id=1)


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(12)])
def test_what_is_too_short_to_be_sealed_is_refused(sealed: bytes) -> None:
    with pytest.raises(SettingsError):
        Seal(bytes(32)).open(sealed, telegram_id=1)
