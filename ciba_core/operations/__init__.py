"""What a client does beside authentications: discovery, refresh, revocation, UserInfo."""
