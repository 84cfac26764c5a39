"""The two database drivers."""
