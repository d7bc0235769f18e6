"""Streams: sequences of tasks to learn and to be judged on."""
