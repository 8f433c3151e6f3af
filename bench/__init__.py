"""Latency and throughput beside the peers."""
