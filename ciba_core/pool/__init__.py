"""Many transactions and operations at once: who is due, and how much each provider is asked."""
