"""Heads that are taught one labelled picture at a time."""
