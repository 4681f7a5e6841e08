"""JSON Web Signatures, Encryption, Keys and Tokens, and DPoP proofs. The one room that knows joserfc."""
