"""Routes frames between clients and workers, and never looks inside them."""
