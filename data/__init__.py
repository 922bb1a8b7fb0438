"""Data sets, attacks, and the views on images that training sees."""
