"""Logins whose state outlives the process: records, stores, sealing."""
