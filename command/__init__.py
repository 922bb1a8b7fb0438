"""What the user asks on the command line: train, check, predict, export, report, bench."""
