"""Media out: a blob's bytes or its thumbnail, for people to look at; and who may, by a signed URL."""

from telewarm.previews.previews import PreviewService
from telewarm.previews.shown import PreviewContent
from telewarm.previews.signing import LONGEST, PreviewUrlSigner, PreviewVariant, SignedPreview

__all__ = ["LONGEST", "PreviewContent", "PreviewService", "PreviewUrlSigner", "PreviewVariant", "SignedPreview"]
