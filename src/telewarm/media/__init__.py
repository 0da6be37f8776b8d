"""Media of a bot: ingest, library, previews, garbage collection."""
