"""The device as one process: a worker that answers, and servers in front of it."""
