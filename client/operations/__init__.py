"""What is asked of a service: each operation is a generator that either driver carries out."""
