"""What belongs to no domain: errors, files, the console, random streams, devices."""
