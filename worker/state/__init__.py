"""One batch, and what it is made of."""
