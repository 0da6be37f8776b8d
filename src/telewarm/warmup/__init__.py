"""Warm-ups: which go first, when to try again, and the work that a bot's lane carries."""

from telewarm.warmup.policy import Retries
from telewarm.warmup.work import WarmupTask, WarmupWork

__all__ = ["Retries", "WarmupTask", "WarmupWork"]
