"""What a CIBA poll costs, next to bare HTTP clients and to the peers: ``python -m benchmarks``."""
