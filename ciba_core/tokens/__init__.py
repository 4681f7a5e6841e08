"""Token responses, ID Tokens, and whether what was granted is what was asked for."""
