"""The sealed backbone: its image on disk, its preprocessing, and the runtimes that run it."""
