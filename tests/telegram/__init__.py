"""The telegram part."""
