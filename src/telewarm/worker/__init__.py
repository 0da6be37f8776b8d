"""The worker: runs the lanes of bots, one lane a bot, and the maintenance of the tables."""
