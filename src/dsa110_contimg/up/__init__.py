"""Start everything with one command: servers from wheels, supervised processes, the first observation."""
