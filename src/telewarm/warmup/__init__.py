"""Warm-ups: retry policy, and the work that a lane carries."""
