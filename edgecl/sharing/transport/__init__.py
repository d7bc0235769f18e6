"""Ways for bundles to get from one device to another."""
