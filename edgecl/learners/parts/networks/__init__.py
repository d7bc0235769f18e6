"""Networks whose weights several tasks share: what is shared and what each task has of its own is told apart by name."""
