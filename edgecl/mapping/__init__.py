"""Mappers: which task a picture comes from, or that it comes from none."""
