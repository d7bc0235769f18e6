"""Pieces that several head methods share."""
