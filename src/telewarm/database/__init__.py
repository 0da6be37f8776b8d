"""The only door to Postgres: one module a table, its plumbing, the migrations and the embedded server."""
