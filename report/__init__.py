"""What a run leaves for people: suspects, a verdict, a page to read."""
