"""What is known of a provider, what is sent to it, and how its answers are read."""
