"""A data directory: its layout and locks, its parts opened, checked and restored."""
