"""Starts broker and workers, keeps them running, and finds or starts this user's own."""
