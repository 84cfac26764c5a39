"""Science: one module per stage, each a plain function of its options. Knows no database, queue or server."""
