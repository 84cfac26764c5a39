"""Benchmarks of the queue against a hand-written loop and against other queues, on one PostgreSQL server."""
