"""Send now: by file id when there is one, with the bytes when there is none yet."""
