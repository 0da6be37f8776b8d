"""The worker: runs lanes, at most one for each bot, and the maintenance of the tables."""
