"""Pieces that several learners share."""
