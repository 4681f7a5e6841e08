"""What the client is and what it asks for: configuration, authentication, requests, hints, profiles."""
