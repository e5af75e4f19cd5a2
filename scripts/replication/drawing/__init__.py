"""How figures and the report look."""
