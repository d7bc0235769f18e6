"""Hostile devices: every attack on a device that concerns bundles and the conversation about them, made for real."""
