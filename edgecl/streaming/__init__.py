"""Learners compared on a stream: each with each seed, what they reach, how sure that is, and what it costs."""
