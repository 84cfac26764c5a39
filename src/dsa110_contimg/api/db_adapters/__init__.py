"""One interface over SQLite and PostgreSQL."""
