"""Independent witnesses: what a plain model of all samples, and others, hold against each."""
