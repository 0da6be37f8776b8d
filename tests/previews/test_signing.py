"""Signed URLs: for one item, one variant and one end; the same in every process with the same key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm import clock
from telewarm.errors import UsageError
from telewarm.media.preview_urls import MAX_TTL_SECONDS, PreviewUrlSigner, PreviewVariant, SignedPreview
from telewarm.models import MediaId

KEY = bytes(range(32))
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
ids = st.integers(1, 2**63 - 1).map(MediaId)
ends = st.integers(0, 10**12 - 1)


@given(ids, ends, st.sampled_from(PreviewVariant))
def test_what_was_signed_is_known_by_every_signer_with_the_key(
    media_id: MediaId, expires: int, what: PreviewVariant
) -> None:
    ticket = PreviewUrlSigner(KEY).until(media_id, what, expires)
    assert PreviewUrlSigner(KEY).verify(media_id, expires, ticket.signature) == ticket
    assert PreviewUrlSigner(bytes(32)).verify(media_id, expires, ticket.signature) is None


@given(ids, ids, ends, ends)
def test_a_signature_is_for_one_item_and_one_end(one: MediaId, other: MediaId, end: int, later: int) -> None:
    signer = PreviewUrlSigner(KEY)
    signature = signer.until(one, PreviewVariant.FILE, end).signature
    assert (signer.verify(other, end, signature) is not None) is (one == other)
    assert (signer.verify(one, later, signature) is not None) is (end == later)


@given(st.text(max_size=60))
def test_no_other_text_is_a_signature(text: str) -> None:
    assert PreviewUrlSigner(KEY).verify(MediaId(7), 1, text.encode("utf-8", "replace").decode()) is None


def test_the_variants_are_told_apart() -> None:
    signatures = {PreviewUrlSigner(KEY).until(MediaId(7), variant, 1).signature for variant in PreviewVariant}
    assert len(signatures) == len(PreviewVariant)


def test_a_digit_cannot_be_moved_from_the_id_to_the_end() -> None:
    assert PreviewUrlSigner(KEY).until(MediaId(71), PreviewVariant.FILE, 2).signature != (
        PreviewUrlSigner(KEY).until(MediaId(7), PreviewVariant.FILE, 12).signature
    )


@pytest.mark.parametrize("seconds", [0, -1, MAX_TTL_SECONDS + 1])
def test_a_life_has_bounds(seconds: int) -> None:
    with pytest.raises(UsageError, match=f"1 to {MAX_TTL_SECONDS} seconds"):
        PreviewUrlSigner(KEY).sign(MediaId(7), PreviewVariant.FILE, seconds=seconds, now=NOW)
    ticket = PreviewUrlSigner(KEY).sign(MediaId(7), PreviewVariant.FILE, seconds=60, now=NOW)
    assert ticket.expires == (NOW + timedelta(seconds=60)).timestamp()


def test_neither_the_encryption_key_nor_what_others_derive_from_it_signs() -> None:
    """Pinned: whoever changes the derivation ends every URL that is out there."""
    ticket = PreviewUrlSigner(KEY).until(MediaId(7), PreviewVariant.FILE, 1_800_000_000)
    assert ticket.signature == "nYeoagCuh4Ww9sMvUUzFzP2b2Bh33OoOugXYsVbz15g"
    assert KEY not in PreviewUrlSigner(KEY)._key


def test_a_signature_is_in_no_repr() -> None:
    ticket = PreviewUrlSigner(KEY).until(MediaId(7), PreviewVariant.FILE, 1)
    assert isinstance(ticket, SignedPreview)
    assert ticket.signature not in repr(ticket)


def test_a_page_of_a_thousand_is_signed_in_a_moment() -> None:
    signer, began = PreviewUrlSigner(KEY), clock.monotonic()
    for media_id in range(1000):
        signer.until(MediaId(media_id), PreviewVariant.FILE, 1_800_000_000)
    assert clock.monotonic() - began < 1.0  # 5 ms on an idle machine
