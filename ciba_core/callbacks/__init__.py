"""The client notification endpoint: how callbacks are judged and whose they are (CIBA Core 9 to 12)."""
