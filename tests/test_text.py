"""What Postgres cannot hold is replaced, and nothing else."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telewarm.database.connection import Pool
from telewarm.text import storable

ANY = st.text(st.characters(codec=None), max_size=40)


@given(ANY)
def test_what_is_left_can_be_encoded_and_keeps_all_that_could(text: str) -> None:
    clean = storable(text)
    assert "\0" not in clean
    clean.encode()
    if "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert clean == text


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "\udc00\ud800"])
async def test_postgres_takes_it(pool: Pool, text: str) -> None:
    with pytest.raises((asyncpg.DataError, asyncpg.PostgresError, UnicodeEncodeError)):
        await pool.fetchval("SELECT $1::text", text)
    assert await pool.fetchval("SELECT $1::text", storable(text)) == storable(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(text=ANY)
async def test_postgres_takes_whatever_it_was(pool: Pool, text: str) -> None:
    assert await pool.fetchval("SELECT $1::text", storable(text)) == storable(text)
