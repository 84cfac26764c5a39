"""Alembic migrations of the products database, one tree for both databases."""
