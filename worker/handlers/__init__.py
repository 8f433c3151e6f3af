"""What a worker does for each request: one function per opcode."""
