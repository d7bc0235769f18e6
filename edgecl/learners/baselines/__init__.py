"""What a method must beat: the lower and the upper bound, replay, and the cheap strong ones on features."""
