"""What every program shares."""
