"""Bodies and responses of the HTTP API."""
