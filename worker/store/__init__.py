"""What keeps a worker's rows: the seam, its engines, the grammar of rows, and a cache of records."""
