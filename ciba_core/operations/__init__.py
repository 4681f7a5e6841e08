"""What follows an authentication: refresh, revocation, UserInfo."""
