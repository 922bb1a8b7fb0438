"""What the user asks on the command line: check, predict, export, bench, tables."""
