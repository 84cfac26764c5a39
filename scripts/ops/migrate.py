#!/usr/bin/env python
"""Migrate the products database: status, upgrade, downgrade, create, history, heads. The same as `dsa110 db`."""

from dsa110_contimg.api.migrations.__main__ import main

if __name__ == "__main__":
    main()
