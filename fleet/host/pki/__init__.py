"""The fleet's public key infrastructure: one certificate authority, kept in files under DIR/pki."""
