"""What one looks at: tables, pictures and pages on runs."""
