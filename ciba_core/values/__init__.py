"""Values that every other room is made of: JSON, form encoding, secrets, HTTP, limits, errors."""
