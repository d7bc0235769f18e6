"""The demo of two devices: a cable between them, a device that serves, and the story."""
