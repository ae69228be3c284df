"""Procedurally rendered street worlds with one label space: an embedded pair of domains. Nothing is read from disk."""
