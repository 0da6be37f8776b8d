"""One revision a change of the schema: `rNNNN_what.py` and its `.sql`."""
