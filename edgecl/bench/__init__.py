"""Speed, bytes and their report."""
