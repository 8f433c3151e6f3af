"""What the processes of a service are made of: how one starts, ends, waits, listens and logs."""
