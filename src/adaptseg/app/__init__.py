"""What one tries: a page on this machine to drop photos on."""
