"""Heads: what one task learned. Arrays, class names and a card; data, never code."""
