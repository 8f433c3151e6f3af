"""Latency and throughput beside the peers, taken in turns in one run: only ratios count."""
