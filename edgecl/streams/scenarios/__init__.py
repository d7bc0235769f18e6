"""Scenarios: in which order the samples of a data set come, and where the stream is cut into experiences. One file each."""
