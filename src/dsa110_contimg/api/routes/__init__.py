"""Endpoints: declare, obtain, call, return."""
