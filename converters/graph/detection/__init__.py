"""Boxes and regions, of all readers."""
