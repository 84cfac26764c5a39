"""Decisions between a request and the records it needs."""
