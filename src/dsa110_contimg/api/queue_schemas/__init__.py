"""Request and reply models of the durable queue's calls, by noun; the rules of ``api/schemas`` hold."""
