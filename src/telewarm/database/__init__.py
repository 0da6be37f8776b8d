"""Database: the only package that accesses PostgreSQL. One module a table, connections, migrations, embedded server."""
