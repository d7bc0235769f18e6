"""Pieces that two methods really share."""
