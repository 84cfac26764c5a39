"""Serve: HTTP, records, SQL, cache and access control. Knows no stage of the pipeline and no task."""
