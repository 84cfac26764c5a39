"""Proof by disturbance: run the queue while everything around it breaks, write down what happened, judge it.

`dsa110 chaos queue` runs real workers (`worker`) and clients (`load`) against a real server, through a proxy that cuts,
delays and drops (`proxy`), under a seeded schedule of faults (`faults`). Everybody appends what they see to one file
(`history`); the server keeps a journal of its own (`journal.sql`). When it is over, `evidence` is gathered and
`checker`, which is made of pure functions, judges it by the invariants of the queue.
"""
