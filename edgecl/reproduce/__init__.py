"""Every figure that was published or specified beforehand: how to run it, what came out, whether it holds. One file a table."""
