"""Many checkboxes that everybody shares: python -m examples.checkboxes. See README.md beside this file."""
