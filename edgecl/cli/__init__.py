"""The command line: words to a dataclass, one call, a result to text."""
