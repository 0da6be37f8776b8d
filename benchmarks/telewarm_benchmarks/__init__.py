"""The benchmarks of `telewarm bench`: whole Telewarms on a sandbox, each figure beside its target."""
