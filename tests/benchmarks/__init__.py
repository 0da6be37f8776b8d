"""Tests of the benchmarks: that they run, and that they measure what they say."""
