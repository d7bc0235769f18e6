"""A fleet on one machine: the code that ships, under simulated time, links, budgets and faults."""
