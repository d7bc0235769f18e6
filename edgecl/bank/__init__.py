"""The device's store of bundles."""
