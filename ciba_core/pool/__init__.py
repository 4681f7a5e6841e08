"""Many transactions and operations at once: which of them are due, and how much each provider is asked."""
