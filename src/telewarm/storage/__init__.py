"""Object storage, and the disk cache of blobs."""
